package sessions

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Format is the protocol of a stock phone app.
type Format string

// The formats. OsmAnd is the protocol of Traccar Client, too.
const (
	OwnTracks      Format = "owntracks"
	OsmAnd         Format = "osmand"
	Transistorsoft Format = "transistorsoft"
	Overland       Format = "overland"
)

// Formats lists the formats.
func Formats() []Format { return []Format{OwnTracks, OsmAnd, Transistorsoft, Overland} }

// MaxDevices is how many devices a trainer may have.
const MaxDevices = 10

// maxDeviceName bounds a device's name, in characters.
const maxDeviceName = 64

// Device is a trainer's phone with a stock app. Its secret opens nothing but the calls
// by which the app reports.
type Device struct {
	ID         ID
	TrainerID  ID
	Name       string // the trainer's word for it; may be empty
	Format     Format
	SecretHash [sha256.Size]byte
	CreatedAt  time.Time
	LastUsedAt time.Time // when it was made or last reported, to the hour
}

// Accepts reports whether secret is the device's. It takes the same time for every
// wrong one.
func (d Device) Accepts(secret string) bool {
	hash := sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(hash[:], d.SecretHash[:]) == 1
}

// DeviceKey is a device's credential as one word, "<id>.<secret>": the id is found
// without a search, and every app has a field that takes the word.
type DeviceKey struct {
	ID     ID
	Secret string
}

// NewDeviceKey makes the credential of a new device. The secret has at least 128 random
// bits, as letters and digits.
func NewDeviceKey() DeviceKey { return DeviceKey{ID: NewID(), Secret: rand.Text()} }

// String is the word.
func (k DeviceKey) String() string { return string(k.ID) + "." + k.Secret }

// maxDeviceSecret bounds what is hashed for a caller who is not known yet.
const maxDeviceSecret = 128

// ParseDeviceKey reads the word. It reports false for what no device has.
func ParseDeviceKey(word string) (DeviceKey, bool) {
	id, secret, ok := strings.Cut(strings.TrimSpace(word), ".")
	if !ok || secret == "" || len(secret) > maxDeviceSecret {
		return DeviceKey{}, false
	}
	parsed, ok := ParseID(id)
	if !ok {
		return DeviceKey{}, false
	}
	return DeviceKey{parsed, secret}, true
}

// Devices is the part of the Repository that keeps devices.
type Devices interface {
	// PutDevice stores a new device. Error: TooManyDevices, where its trainer has
	// MaxDevices.
	PutDevice(ctx context.Context, d Device) error
	// Devices reads the devices with these ids; one that does not exist has no entry.
	Devices(ctx context.Context, ids []ID) (map[ID]Device, error)
	// DevicesOf lists a trainer's devices, the latest first.
	DevicesOf(ctx context.Context, trainerID ID) ([]Device, error)
	// DeleteDevice deletes a device if it is that trainer's.
	DeleteDevice(ctx context.Context, trainerID, id ID) error
	// DevicesUsed notes when devices last reported. One that is gone is left out.
	DevicesUsed(ctx context.Context, used map[ID]time.Time) error
	// RunningSessions finds the session with the running journey of each trainer; one
	// without has no entry.
	RunningSessions(ctx context.Context, trainerIDs []ID) (map[ID]RunningSession, error)
}

// RunningSession is a session whose journey runs, and its region.
type RunningSession struct {
	SessionID ID
	Region    string
}

// CreateDevice makes a device of the caller's. The key is told here and never again.
// Errors: Forbidden, InvalidRequest, TooManyDevices, DatabaseUnavailable.
func (s *Service) CreateDevice(ctx context.Context, c Caller, name string, format Format) (Device, DeviceKey, error) {
	if !c.Has(Trainer) {
		return Device{}, DeviceKey{}, errNoDevices
	}
	if err := checkDeviceName(name); err != nil {
		return Device{}, DeviceKey{}, err
	}
	if !slices.Contains(Formats(), format) {
		return Device{}, DeviceKey{}, InvalidField("format", "format must be owntracks, osmand, transistorsoft or overland")
	}
	key, now := NewDeviceKey(), ms(s.opts.Now())
	d := Device{
		ID: key.ID, TrainerID: c.ID, Name: name, Format: format,
		SecretHash: sha256.Sum256([]byte(key.Secret)), CreatedAt: now, LastUsedAt: now,
	}
	return d, key, s.repo.PutDevice(context.WithoutCancel(ctx), d)
}

// DevicesOf lists the caller's devices, the latest first. Errors: Forbidden,
// DatabaseUnavailable.
func (s *Service) DevicesOf(ctx context.Context, c Caller) ([]Device, error) {
	if !c.Has(Trainer) {
		return nil, errNoDevices
	}
	return s.repo.DevicesOf(ctx, c.ID)
}

// Device reads one device of the caller's. Errors: Forbidden, DeviceNotFound,
// DatabaseUnavailable.
func (s *Service) Device(ctx context.Context, c Caller, id ID) (Device, error) {
	list, err := s.DevicesOf(ctx, c)
	if err != nil {
		return Device{}, err
	}
	for _, d := range list {
		if d.ID == id {
			return d, nil
		}
	}
	return Device{}, Refuse(DeviceNotFound, "no such device")
}

// DeleteDevice revokes a device of the caller's: at once on this gateway, on others
// within reportersFor. For a device that is not the caller's, or not known, it does
// nothing and returns no error. Errors: Forbidden, DatabaseUnavailable.
func (s *Service) DeleteDevice(ctx context.Context, c Caller, id ID) error {
	if !c.Has(Trainer) {
		return errNoDevices
	}
	err := s.repo.DeleteDevice(context.WithoutCancel(ctx), c.ID, id)
	s.reporters.forgetDevice(id)
	return err
}

var errNoDevices = Refuse(Forbidden, "only a trainer has devices")

func checkDeviceName(name string) error {
	if !utf8.ValidString(name) || utf8.RuneCountInString(name) > maxDeviceName {
		return InvalidField("name", "name must have at most 64 characters")
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return InvalidField("name", "name must not have control characters")
	}
	return nil
}
