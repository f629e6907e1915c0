package api

import (
	"context"
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

// deviceBody is a device without its secret.
type deviceBody struct {
	DeviceID   sessions.ID     `json:"deviceId"`
	Name       string          `json:"name"`
	Format     sessions.Format `json:"format"`
	CreatedAt  *string         `json:"createdAt"`
	LastUsedAt *string         `json:"lastUsedAt"`
}

func deviceOf(d sessions.Device) deviceBody {
	return deviceBody{d.ID, d.Name, d.Format, timestamp(d.CreatedAt), timestamp(d.LastUsedAt)}
}

// newDeviceBody is a device with its secret, which is told once, and with what to type
// into its app.
type newDeviceBody struct {
	deviceBody
	Secret string       `json:"secret"`
	URL    string       `json:"url"`
	User   sessions.ID  `json:"user"`
	Fields []setupField `json:"fields"`
	Link   *string      `json:"link"`
	QR     *string      `json:"qr"`
	Setup  string       `json:"setupUrl"`
}

// createDevice makes a device of the caller's.
func (a *API) createDevice(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	var body struct {
		Name   *string          `json:"name"`
		Format *sessions.Format `json:"format"`
	}
	if err := decode(c, &body); err != nil {
		return err
	}
	if body.Format == nil {
		return invalid("format", "format is required")
	}
	public := a.publicURL()
	if public == "" {
		return errNoPublicURL
	}
	recordOf(c).secret = true
	name := ""
	if body.Name != nil {
		name = *body.Name
	}
	d, key, err := a.deps.Sessions.CreateDevice(ctx, caller, name, *body.Format)
	if err != nil {
		return err
	}
	setup := setupOf(d, public, key.String())
	answer := newDeviceBody{
		deviceBody: deviceOf(d), Secret: key.String(), URL: setup.url, User: d.ID, Fields: setup.fields,
		Setup: public + devicesPath + "/" + string(d.ID) + "/setup",
	}
	if setup.link != "" {
		picture := pictureOf(setup.link)
		answer.Link, answer.QR = &setup.link, &picture
	}
	return succeed(c, http.StatusCreated, "Device created; its secret is not shown again", answer)
}

var errNoPublicURL = sessions.Refuse(sessions.NotSupported, "devices need the setting DOORSTEP_PUBLIC_URL")

func (a *API) publicURL() string {
	if a.deps.PublicURL == nil {
		return ""
	}
	return a.deps.PublicURL()
}

// listDevices lists the caller's devices, the latest first.
func (a *API) listDevices(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	list, err := a.deps.Sessions.DevicesOf(ctx, caller)
	if err != nil {
		return err
	}
	devices := []deviceBody{}
	for _, d := range list {
		devices = append(devices, deviceOf(d))
	}
	return succeed(c, http.StatusOK, "Your devices", map[string]any{"devices": devices})
}

// deleteDevice revokes a device of the caller's. One that is not the caller's gets the
// same answer.
func (a *API) deleteDevice(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := parseID("deviceId", c.Param("deviceId"))
	if err != nil {
		return err
	}
	if err := a.deps.Sessions.DeleteDevice(ctx, caller, id); err != nil {
		return err
	}
	c.SetStatusCode(http.StatusNoContent)
	return nil
}

// deviceSetup answers with a page that says what to type into the device's app. The
// secret is not kept, so the page does not have it.
func (a *API) deviceSetup(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := parseID("deviceId", c.Param("deviceId"))
	if err != nil {
		return err
	}
	public := a.publicURL()
	if public == "" {
		return errNoPublicURL
	}
	d, err := a.deps.Sessions.Device(ctx, caller, id)
	if err != nil {
		return err
	}
	page := setupPage(d, setupOf(d, public, ""))
	c.Header("Content-Security-Policy", setupPolicy)
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("Referrer-Policy", "no-referrer")
	c.Data(http.StatusOK, "text/html; charset=utf-8", page)
	return nil
}
