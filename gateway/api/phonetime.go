package api

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// An app formats an instant with whatever its platform offers, and the result
// depends on the user's calendar, digits, 12-hour switch and language. This file
// reads what formatters in the field write. docs/integrate.md lists it for app
// teams.

// clockWindow is how far an instant may be from the present. What is farther
// cannot be the clock of a phone that can speak TLS today:
//
//   - another calendar: Buddhist 2569 and Minguo 115 for 2026, Persian 1405,
//     Islamic 1447, Japanese 8, Hebrew 5786, Saka 1948; Ethiopian is 8 years
//     behind, so a bound at a fixed year would not do;
//   - a clock that lost its battery: 1970, or the year in which it was made;
//   - the week-based year (YYYY for yyyy), which is a year off around New Year;
//     so the window must be less than a year.
const clockWindow = 183 * 24 * time.Hour

// phoneInstant reads an instant of a phone: what stood in the JSON, a text
// without its quotes or a number. Zero for "no clock": nothing was said, it
// cannot be read, or it is not within clockWindow of now.
//
// now is the gateway's clock, which only decides what is absurd. The live store's
// clock judges the rest.
func phoneInstant(text string, now time.Time) time.Time {
	if text == "" {
		return time.Time{}
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil { // nearly always, and without an allocation
		return within(t, now)
	}
	if len(text) > maxInstant {
		return time.Time{}
	}
	text = plain(text)
	if t := ofNumber(text, now); !t.IsZero() {
		return t
	}
	if t, ok := scanInstant(text); ok {
		return within(t, now)
	}
	english, _, _ := strings.Cut(strings.ToUpper(text), " (") // Date.toString ends in (India Standard Time)
	for _, layout := range englishLayouts {
		if t, err := time.Parse(layout, english); err == nil {
			return within(t, now)
		}
	}
	return time.Time{}
}

// maxInstant is the longest text that is read, in bytes. The longest of the
// forms below is some 80 characters: Date.toString of a browser with a long name
// of the time zone.
const maxInstant = 256

// within is t if a clock of today can mean it, else zero.
func within(t, now time.Time) time.Time {
	if t.Before(now.Add(-clockWindow)) || t.After(now.Add(clockWindow)) {
		return time.Time{}
	}
	return t
}

// plain writes a text in ASCII as far as formatters vary: the digits of any
// script become 0 to 9, exotic blanks become spaces, signs and separators become
// those of ISO 8601, marks of the writing direction go. Letters become lower case.
// iOS 17 puts U+202F before AM and PM.
func plain(text string) string {
	var b strings.Builder
	blank := true // no blank at the start
	for _, r := range text {
		if digit, ok := digitOf(r); ok {
			r = digit
		}
		switch {
		case unicode.IsSpace(r):
			if !blank {
				b.WriteByte(' ')
			}
			blank = true
			continue
		case unicode.Is(unicode.Cf, r): // direction marks, the byte order mark, the joiners of Persian
			continue
		case unicode.Is(unicode.Pd, r) || r == '\u2212': // dashes and the minus sign
			r = '-'
		case r == '\u066b' || r == '\uff0e': // the decimal separator of Arabic; the full-width stop
			r = '.'
		case r == '\uff1a' || r == '\u2236' || r == '\ua789': // colons
			r = ':'
		case r == '\u060c' || r == '\uff0c': // commas
			r = ','
		case r == '\uff0f' || r == '\u2215' || r == '\u2044': // slashes
			r = '/'
		}
		b.WriteRune(unicode.ToLower(r))
		blank = false
	}
	return strings.TrimSuffix(b.String(), " ")
}

// digitOf is the ASCII digit of a decimal digit of any script. Unicode keeps the
// ten digits of a script together and in order.
func digitOf(r rune) (rune, bool) {
	if r < unicode.MaxASCII {
		return r, '0' <= r && r <= '9'
	}
	if !unicode.Is(unicode.Nd, r) {
		return r, false
	}
	first := r
	for unicode.Is(unicode.Nd, first-1) {
		first--
	}
	return '0' + (r-first)%10, true
}

// The scales in which numbers are read. No two of them mean an instant of today
// by one number.
var scales = []struct {
	epoch int64   // Unix seconds of 0
	unit  float64 // units a second
}{
	{0, 1},           // Unix seconds
	{0, 1e3},         // milliseconds: Date.now(), System.currentTimeMillis()
	{0, 1e6},         // microseconds
	{0, 1e9},         // nanoseconds
	{978_307_200, 1}, // seconds since 2001: what Swift's JSONEncoder makes of a Date
}

// ofNumber reads a number, also as .NET's /Date(1773480420412)/; zero for any
// other text.
func ofNumber(text string, now time.Time) time.Time {
	if inner, ok := strings.CutPrefix(text, "/date("); ok {
		text = strings.TrimSuffix(inner, ")/")
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) {
		return time.Time{}
	}
	for _, s := range scales {
		seconds := n/s.unit + float64(s.epoch)
		if !(math.Abs(seconds) < 1e11) { // else the conversion below overflows
			continue
		}
		whole, fraction := math.Modf(seconds)
		// Rounded to microseconds: 1773480420.412 has no exact float.
		t := time.Unix(int64(whole), int64(math.Round(fraction*1e6))*1e3).UTC()
		if t = within(t, now); !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}

// englishLayouts are the forms with names of months that programs write without
// being asked to: JavaScript's Date.toString, Java's, HTTP's, RFC 5322's, Gson's. A
// zone's name other than UTC and GMT is taken for UTC; the store learns the
// difference.
var englishLayouts = []string{
	"Mon Jan 2 2006 15:04:05 GMT-0700",
	"Mon Jan 2 15:04:05 MST 2006",
	"Mon Jan 2 15:04:05 GMT-07:00 2006",
	"Mon Jan 2 15:04:05 2006",
	"Mon, 2 Jan 2006 15:04:05 MST",
	"Mon, 2 Jan 2006 15:04:05 -0700",
	"2 Jan 2006 15:04:05 -0700",
	"Jan 2, 2006, 3:04:05 PM",
	"Jan 2, 2006 3:04:05 PM",
}

// scanner reads a text from the left. A method that finds what it looks for
// moves on and says so; else it stays.
type scanner struct{ rest string }

// scanInstant reads ISO 8601 and what is nearly that. text comes from plain.
//
//	date  2026-03-14  2026/3/14  2026.03.14  20260314  +002026-03-14
//	      then T, a space, a comma or nothing
//	time  09:27  09:27:00  09.27.00  9:27:00.123456789  09:27:00,412  09:27:00:412  092700
//	      with AM or PM behind it, or before it, in the languages below
//	zone  Z  UTC  GMT  +05:30  +0530  +05  +5:30  GMT+5  UTC+05:30; then [Asia/Kolkata], (IST) or a name
//
// Without a zone it is UTC. Where it was local time, the live store sees a clock
// that is some hours off, as it sees any other that is.
func scanInstant(text string) (time.Time, bool) {
	s := &scanner{text}
	year, month, day, ok := s.date()
	if !ok {
		return time.Time{}, false
	}
	s.skip(" ,_")
	if !s.take("t") && s.rest == "" {
		return time.Time{}, false // a day is not an instant
	}
	s.skip(" ")
	half := s.meridiem()
	s.skip(" ")
	hour, minute, second, nanos, ok := s.clock()
	if !ok {
		return time.Time{}, false
	}
	s.skip(" ")
	if half == noHalf {
		half = s.meridiem()
		s.skip(" ")
	}
	offset, ok := s.zone()
	if !ok {
		return time.Time{}, false
	}
	if hour, ok = half.hour(hour); !ok {
		return time.Time{}, false
	}
	// 24:00:00 is the end of the day (ISO 8601). 24:27 is the hour that the
	// pattern kk, and some browsers, write for 00:27.
	if hour == 24 && (minute > 0 || second > 0 || nanos > 0) {
		hour = 0
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, nanos, time.UTC) // second 60, a leap second, is the next minute's first
	return t.Add(-offset), true
}

// date reads a date that exists.
func (s *scanner) date() (year, month, day int, ok bool) {
	if s.take("+") {
		year, ok = s.number(6, 6) // ECMAScript's expanded years
	} else {
		year, ok = s.number(4, 4)
	}
	if !ok {
		return 0, 0, 0, false
	}
	separator := s.one("-/.")
	least := 1
	if separator == "" { // 20260314
		least = 2
	}
	if month, ok = s.number(least, 2); !ok || s.one("-/.") != separator {
		return 0, 0, 0, false
	}
	day, ok = s.number(least, 2)
	// Date normalizes what does not exist: 30 February of another calendar
	// would be 2 March.
	exists := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC).Day() == day
	return year, month, day, ok && month >= 1 && month <= 12 && exists
}

// clock reads a time of day. Seconds and their fraction may be missing.
func (s *scanner) clock() (hour, minute, second, nanos int, ok bool) {
	if hour, ok = s.number(1, 2); !ok {
		return 0, 0, 0, 0, false
	}
	separator := s.one(":.")
	if minute, ok = s.number(2, 2); !ok {
		return 0, 0, 0, 0, false
	}
	if before := *s; s.one(":.") == separator {
		if second, ok = s.number(2, 2); ok {
			nanos = s.fraction()
		} else if *s = before; separator == "" {
			second = 0 // 0927
		} else {
			return 0, 0, 0, 0, false
		}
	} else {
		*s = before
	}
	return hour, minute, second, nanos, hour <= 24 && minute <= 59 && second <= 60
}

// fraction reads the digits behind the seconds, as nanoseconds. More than nine
// are cut. 0 where there is none.
func (s *scanner) fraction() int {
	before := *s
	if s.one(".,:") == "" {
		return 0
	}
	digits := s.digits(len(s.rest))
	if digits == "" {
		*s = before
		return 0
	}
	n, _ := strconv.Atoi((digits + "000000000")[:9])
	return n
}

// zone reads the rest of the text as a zone: its offset from UTC.
func (s *scanner) zone() (offset time.Duration, ok bool) {
	for _, name := range []string{"utc", "gmt", "z"} {
		if s.take(name) {
			break
		}
	}
	s.skip(" ")
	if sign := s.one("+-"); sign != "" {
		hours, ok := s.number(1, 2)
		if !ok {
			return 0, false
		}
		s.take(":")
		minutes, _ := s.number(2, 2) // none: +05
		if s.take(":") {
			s.number(2, 2) // seconds, of a zone before 1972
		}
		offset = time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
		if sign == "-" {
			offset = -offset
		}
	}
	s.skip(" ")
	return offset, offset.Abs() <= 18*time.Hour && isZoneName(s.rest)
}

// isZoneName reports whether text is nothing or a name that says no more than the
// offset before it: [asia/kolkata], (india standard time), ist.
func isZoneName(text string) bool {
	switch {
	case text == "":
		return true
	case text[0] == '[':
		return strings.HasSuffix(text, "]")
	case text[0] == '(':
		return strings.HasSuffix(text, ")")
	}
	// A word of two letters could be the PM of a language that is not below.
	return len(text) >= 3 && len(text) <= 5 && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz") == ""
}

func (s *scanner) take(prefix string) (ok bool) {
	s.rest, ok = strings.CutPrefix(s.rest, prefix)
	return ok
}

func (s *scanner) skip(these string) { s.rest = strings.TrimLeft(s.rest, these) }

// one takes one of these characters; empty where there is none.
func (s *scanner) one(of string) string {
	if s.rest == "" || strings.IndexByte(of, s.rest[0]) < 0 {
		return ""
	}
	c := s.rest[:1]
	s.rest = s.rest[1:]
	return c
}

// digits takes the digits at the start, at most so many.
func (s *scanner) digits(most int) string {
	n := 0
	for n < min(most, len(s.rest)) && '0' <= s.rest[n] && s.rest[n] <= '9' {
		n++
	}
	d := s.rest[:n]
	s.rest = s.rest[n:]
	return d
}

// number takes a number of so many digits.
func (s *scanner) number(least, most int) (int, bool) {
	before := *s
	d := s.digits(most)
	if len(d) < least {
		*s = before
		return 0, false
	}
	n, err := strconv.Atoi(d)
	return n, err == nil
}

// half is the half of a day of a 12-hour clock.
type half int

const (
	noHalf half = iota
	am
	pm
)

// hour is the hour of 0 to 23 (24 without a half) for an hour that a clock shows.
// Some formatters put PM behind an hour of the 24-hour clock; it is then right
// already.
func (h half) hour(shown int) (int, bool) {
	switch {
	case h == noHalf:
		return shown, true
	case h == am && shown == 12:
		return 0, true
	case h == pm && shown < 12:
		return shown + 12, true
	}
	return shown, shown < 24
}

// meridiems are the names of the halves in CLDR, in lower case and without stops
// and spaces. An iPhone that is set to the 12-hour clock writes them into patterns
// that ask for 24 hours, in the language of its region.
var meridiems = []struct {
	name string
	half half
}{
	{"am", am}, {"pm", pm}, // English, Spanish, Hindi and most others
	{"上午", am}, {"下午", pm}, {"凌晨", am}, {"早上", am}, {"中午", pm}, {"晚上", pm}, // Chinese
	{"午前", am}, {"午後", pm}, // Japanese
	{"오전", am}, {"오후", pm}, // Korean
	{"ص", am}, {"م", pm}, // Arabic
	{"قظ", am}, {"بظ", pm}, {"قبلازظهر", am}, {"بعدازظهر", pm}, // Persian
	{"पूर्वाह्न", am}, {"अपराह्न", pm}, // Hindi
	{"ก่อนเที่ยง", am}, {"หลังเที่ยง", pm}, // Thai
	{"sa", am}, {"ch", pm}, // Vietnamese
	{"öö", am}, {"ös", pm}, // Turkish
	{"πμ", am}, {"μμ", pm}, // Greek
	{"de", am}, {"du", pm}, // Hungarian
	{"fm", am}, {"em", pm}, // Swedish
	{"пробпредобед", am}, {"преобед", am}, {"слобед", pm}, // Bulgarian
	{"дп", am}, {"пп", pm}, // Ukrainian
	{"vorm", am}, {"nachm", pm}, // German
	{"முற்பகல்", am}, {"பிற்பகல்", pm}, // Tamil
	{"ಪೂರ್ವಾಹ್ನ", am}, {"ಅಪರಾಹ್ನ", pm}, // Kannada
	{"ጥዋት", am}, {"ከሰዓት", pm}, // Amharic
	{"לפנהצ", am}, {"אחהצ", pm}, // Hebrew
}

// meridiem reads the name of a half.
func (s *scanner) meridiem() half {
	end := strings.IndexFunc(s.rest, func(r rune) bool { return unicode.IsDigit(r) || r == '+' || r == '-' || r == '(' || r == '[' })
	if end < 0 {
		end = len(s.rest)
	}
	word := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsMark(r) {
			return r
		}
		return -1
	}, s.rest[:end])
	for _, m := range meridiems {
		tail, ok := strings.CutPrefix(word, m.name)
		if ok && slices.Contains([]string{"", "z", "utc", "gmt"}, tail) {
			s.rest = tail + s.rest[end:]
			return m.half
		}
	}
	return noHalf
}
