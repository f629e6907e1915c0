package api

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// today is the gateway's clock in these tests, a little after the instant that
// all forms below write.
var today = time.Date(2026, 3, 14, 9, 28, 0, 0, time.UTC)

func utc(hour, minute, second, millis int) time.Time {
	return time.Date(2026, 3, 14, hour, minute, second, millis*1e6, time.UTC)
}

// in writes a text's ASCII digits in the script of zero.
func in(zero rune, text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return zero + r - '0'
		}
		return r
	}, text)
}

func TestPhoneInstant(t *testing.T) {
	t.Parallel()
	whole, milli := utc(9, 27, 0, 0), utc(9, 27, 0, 412)
	for name, c := range map[string]struct {
		text string
		want time.Time
	}{
		// RFC 3339, as it is and nearly.
		"RFC 3339":                        {"2026-03-14T09:27:00Z", whole},
		"JavaScript toISOString":          {"2026-03-14T09:27:00.412Z", milli},
		"JavaScript, an expanded year":    {"+002026-03-14T09:27:00.412Z", milli},
		"Python isoformat":                {"2026-03-14T09:27:00.412000+00:00", milli},
		"Python isoformat, naive":         {"2026-03-14T09:27:00.412000", milli},
		"Python str":                      {"2026-03-14 09:27:00.412000+00:00", milli},
		"Java Instant, nanoseconds":       {"2026-03-14T09:27:00.412000000Z", milli},
		"Java OffsetDateTime, no seconds": {"2026-03-14T09:27Z", whole},
		"Java LocalDateTime, no seconds":  {"2026-03-14T09:27", whole},
		"Java ZonedDateTime":              {"2026-03-14T14:57:00.412+05:30[Asia/Kolkata]", milli},
		"Kotlin, an offset":               {"2026-03-14T14:57:00.412+05:30", milli},
		"Dart toIso8601String":            {"2026-03-14T09:27:00.412000Z", milli},
		"Dart, local":                     {"2026-03-14T09:27:00.412000", milli},
		".NET, seven digits":              {"2026-03-14T09:27:00.4120000Z", milli},
		"Go String":                       {"2026-03-14 09:27:00.412 +0000 UTC", milli},
		"Swift, a date's description":     {"2026-03-14 09:27:00 +0000", whole},
		"PostgreSQL":                      {"2026-03-14 09:27:00.412+00", milli},
		"small letters":                   {"2026-03-14t09:27:00z", whole},
		"a decimal comma":                 {"2026-03-14T09:27:00,412Z", milli},
		"a colon before milliseconds":     {"2026-03-14T09:27:00:412Z", milli},
		"one digit of a second":           {"2026-03-14T09:27:00.4Z", utc(9, 27, 0, 400)},
		"twelve digits of a second":       {"2026-03-14T09:27:00.412000000000Z", milli},
		"an offset without a colon":       {"2026-03-14T14:57:00.412+0530", milli},
		"an offset of hours":              {"2026-03-14T14:27:00+05", whole},
		"an offset of one digit":          {"2026-03-14T14:57:00+5:30", whole},
		"a zone behind a space":           {"2026-03-14T09:27:00 Z", whole},
		"the name UTC":                    {"2026-03-14T09:27:00UTC", whole},
		"the name GMT":                    {"2026-03-14 09:27:00 GMT", whole},
		"GMT and an offset":               {"2026-03-14T14:57:00GMT+05:30", whole},
		"a short GMT offset":              {"2026-03-14T14:27:00GMT+5", whole},
		"an offset and a name":            {"2026-03-14 14:57:00 +0530 IST", whole},
		"a name alone is UTC":             {"2026-03-14 09:27:00 CET", whole},
		"slashes":                         {"2026/03/14 09:27:00", whole},
		"dots":                            {"2026.03.14 09.27.00", whole},
		"a comma between":                 {"2026-03-14, 09:27:00", whole},
		"no zeros":                        {"2026-3-14 9:27:00", whole},
		"basic ISO 8601":                  {"20260314T092700Z", whole},
		"basic, with an offset":           {"20260314T145700.412+0530", milli},
		"digits only":                     {"20260314092700", whole},
		"blanks around":                   {" 2026-03-14T09:27:00Z\n", whole},
		"a byte order mark":               {"\ufeff2026-03-14T09:27:00Z", whole},
		"a leap second":                   {"2026-03-14T09:26:60Z", whole},
		"24:00 is the end of the day":     {"2026-03-13T24:00:00Z", utc(0, 0, 0, 0)},
		"the pattern kk":                  {"2026-03-14T24:27:00Z", utc(0, 27, 0, 0)},

		// Digits, signs and blanks of other scripts.
		"Arabic digits":            {in('\u0660', "2026-03-14T09:27:00") + "Z", whole},
		"Arabic digits, separator": {in('\u0660', "2026-03-14T09:27:00\u066b412Z"), milli},
		"Arabic, an offset":        {in('\u0660', "2026-03-14T14:57:00+05:30"), whole},
		"Persian digits":           {in('\u06f0', "2026-03-14T09:27:00.412Z"), milli},
		"Devanagari digits":        {in('\u0966', "2026-03-14T09:27:00.412Z"), milli},
		"Bengali digits":           {in('\u09e6', "2026-03-14T09:27:00.412+00:00"), milli},
		"Thai digits":              {in('\u0e50', "2026-03-14T09:27:00.412Z"), milli},
		"Burmese digits":           {in('\u1040', "2026-03-14T09:27:00.412Z"), milli},
		"full-width digits":        {in('\uff10', "2026-03-14T09\uff1a27\uff1a00Z"), whole},
		"mixed digits":             {in('\u0660', "2026-03-14") + "T09:27:00Z", whole},
		"marks of direction":       {"\u200f2026\u200e-\u200e03-14T09:27:00Z", whole},
		"a minus sign":             {"2026\u221203\u221214T04:27:00\u221205:00", whole},
		"a no-break space":         {"2026-03-14\u00a009:27:00", whole},

		// A phone on the 12-hour clock.
		"iOS, 12 hours":          {"2026-03-14T9:27:00 AMZ", whole},
		"iOS, afternoon":         {"2026-03-14T3:27:00 PMZ", utc(15, 27, 0, 0)},
		"iOS 17's narrow space":  {"2026-03-14T9:27:00\u202fAM+0000", whole},
		"midnight":               {"2026-03-14T12:05:00 am +00:00", utc(0, 5, 0, 0)},
		"noon":                   {"2026-03-14T12:05:00 p.m.Z", utc(12, 5, 0, 0)},
		"Spanish":                {"2026-03-14T03:27:00 p.\u00a0m.Z", utc(15, 27, 0, 0)},
		"milliseconds before it": {"2026-03-14T03:27:00.412 PM+0000", utc(15, 27, 0, 412)},
		"a 24-hour clock and PM": {"2026-03-14T15:27:00 PMZ", utc(15, 27, 0, 0)},
		"Chinese":                {"2026-03-14T下午3:27:00Z", utc(15, 27, 0, 0)},
		"Japanese":               {"2026-03-14T午後3:27:00Z", utc(15, 27, 0, 0)},
		"Korean":                 {"2026-03-14T오전 9:27:00+0000", whole},
		"Arabic, afternoon":      {in('\u0660', "2026-03-14T3:27:00 م") + "+0000", utc(15, 27, 0, 0)},
		"Persian, afternoon":     {in('\u06f0', "2026-03-14T3:27:00 ب.ظ.Z"), utc(15, 27, 0, 0)},
		"Hindi, afternoon":       {"2026-03-14T3:27:00 अपराह्नZ", utc(15, 27, 0, 0)},
		"Greek, afternoon":       {"2026-03-14T3:27:00 μ.μ.Z", utc(15, 27, 0, 0)},

		// Numbers.
		"Unix seconds":              {"1773480420", whole},
		"Unix seconds and fraction": {"1773480420.412", milli},
		"Unix milliseconds":         {"1773480420412", milli},
		"as Kotlin writes a double": {"1.773480420412E12", milli},
		"Unix microseconds":         {"1773480420412000", milli},
		"Unix nanoseconds":          {"1773480420412000000", milli},
		"Arabic Unix milliseconds":  {in('\u0660', "1773480420412"), milli},
		"Swift's JSONEncoder":       {"795173220.412", milli},
		".NET's Date":               {"/Date(1773480420412)/", milli},

		// English texts.
		"JavaScript Date.toString": {"Sat Mar 14 2026 14:57:00 GMT+0530 (India Standard Time)", whole},
		"JavaScript toUTCString":   {"Sat, 14 Mar 2026 09:27:00 GMT", whole},
		"Java Date.toString":       {"Sat Mar 14 09:27:00 UTC 2026", whole},
		"Java Date.toString, GMT+": {"Sat Mar 14 14:57:00 GMT+05:30 2026", whole},
		"C asctime":                {"Sat Mar 14 09:27:00 2026", whole},
		"Gson":                     {"Mar 14, 2026, 9:27:00 AM", whole},
		"Gson, Java 20":            {"Mar 14, 2026, 9:27:00\u202fAM", whole},
		"RFC 5322":                 {"Sat, 14 Mar 2026 14:57:00 +0530", whole},

		// No clock: other calendars.
		"Buddhist":       {"2569-03-14T09:27:00Z", time.Time{}},
		"Buddhist, Thai": {in('\u0e50', "2569-03-14T09:27:00Z"), time.Time{}},
		"Japanese year":  {"0008-03-14T09:27:00Z", time.Time{}},
		"Japanese era":   {"R8-03-14T09:27:00Z", time.Time{}},
		"Japanese era 2": {"令和8-03-14T09:27:00Z", time.Time{}},
		"Persian":        {in('\u06f0', "1404-12-23T09:27:00Z"), time.Time{}},
		"Islamic":        {in('\u0660', "1447-09-25T09:27:00Z"), time.Time{}},
		"Hebrew":         {"5786-06-25T09:27:00Z", time.Time{}},
		"Minguo":         {"0115-03-14T09:27:00Z", time.Time{}},
		"Saka":           {"1947-12-23T09:27:00Z", time.Time{}},
		"Ethiopian":      {"2018-07-05T09:27:00Z", time.Time{}},
		"month 13":       {"2018-13-05T09:27:00Z", time.Time{}},
		// No clock: not of today.
		"1970":               {"1970-01-01T00:00:12Z", time.Time{}},
		"0 ms":               {"0", time.Time{}},
		"the year of a chip": {"2015-01-01T00:03:00Z", time.Time{}},
		"week-based year":    {"2027-03-14T09:27:00Z", time.Time{}},
		"Java's minimum":     {"0001-01-01T00:00:00Z", time.Time{}},
		"9999":               {"9999-12-31T23:59:59Z", time.Time{}},
		"before Christ":      {"-002026-03-14T09:27:00Z", time.Time{}},
		"a huge number":      {"1e300", time.Time{}},
		"infinite":           {"inf", time.Time{}},
		"NaN":                {"NaN", time.Time{}},
		// No clock: cannot be read.
		"nothing":                 {"", time.Time{}},
		"blanks":                  {" \t", time.Time{}},
		"a word":                  {"yesterday", time.Time{}},
		"Invalid Date":            {"Invalid Date", time.Time{}},
		"null in quotes":          {"null", time.Time{}},
		"an object":               {`{"seconds":1773480420}`, time.Time{}},
		"a day":                   {"2026-03-14", time.Time{}},
		"a time":                  {"09:27:00", time.Time{}},
		"30 February":             {"2026-02-30T09:27:00Z", time.Time{}},
		"month 0":                 {"2026-00-14T09:27:00Z", time.Time{}},
		"minutes for months":      {"2026-27-14T09:03:00Z", time.Time{}},
		"the pattern DD":          {"2026-03-73T09:27:00Z", time.Time{}},
		"hour 25":                 {"2026-03-14T25:27:00Z", time.Time{}},
		"minute 60":               {"2026-03-14T09:60:00Z", time.Time{}},
		"a zone beyond the world": {"2026-03-14T09:27:00+1900", time.Time{}},
		"two zones":               {"2026-03-14T09:27:00ZZ", time.Time{}},
		"an unknown PM":           {"2026-03-14T9:27:00 MD", time.Time{}},
		"an unknown PM, Georgian": {"2026-03-14T9:27:00 შუად", time.Time{}},
		"two digits of a year":    {"26-03-14T09:27:00Z", time.Time{}},
		"day first":               {"14/03/2026 09:27:00", time.Time{}},
		"a long text":             {"2026-03-14T09:27:00" + strings.Repeat(" ", 300) + "Z", time.Time{}},
		"bad UTF-8":               {"2026-03-14T09:27:00\xff", time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, c.want, phoneInstant(c.text, today).UTC().Round(0), "%q", c.text)
		})
	}
}

func TestPhoneInstant_window(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{0, 6 * time.Hour, 30 * 24 * time.Hour, clockWindow} {
		for _, at := range []time.Time{today.Add(off), today.Add(-off)} {
			assert.True(t, at.Equal(phoneInstant(at.Format(time.RFC3339Nano), today)), "%s", at)
		}
	}
	for _, at := range []time.Time{today.Add(clockWindow + time.Second), today.Add(-clockWindow - time.Second)} {
		assert.Zero(t, phoneInstant(at.Format(time.RFC3339Nano), today), "%s", at)
	}
}

// Every decimal digit of Unicode is read as its value.
func TestDigitOf(t *testing.T) {
	t.Parallel()
	for _, r16 := range unicode.Nd.R16 {
		require.EqualValues(t, 1, r16.Stride)
		for r := rune(r16.Lo); r <= rune(r16.Hi); r++ {
			got, ok := digitOf(r)
			require.True(t, ok)
			require.Equal(t, '0'+(r-rune(r16.Lo))%10, got, "%U", r)
		}
	}
}

// Whatever is said is within the window or no clock, and what is read is read
// again from its RFC 3339 form.
func FuzzPhoneInstant(f *testing.F) {
	for _, text := range []string{
		"2026-03-14T09:27:00.412Z", "+002026-03-14T09:27:00Z", "20260314092700", "1773480420412", "/Date(1)/", "2026-03-14T下午3:27:00Z", "Mar 14, 2026, 9:27:00 AM",
		"Sat Mar 14 2026 14:57:00 GMT+0530 (India Standard Time)", in('\u0660', "2026-03-14T3:27:00 م+0000"), "2026-03-14T24:00:00+18:00", "\xff", "2026-03-14 9.27,", "\u0660",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := phoneInstant(text, today)
		if got.IsZero() {
			return
		}
		require.LessOrEqual(t, got.Sub(today).Abs(), clockWindow)
		require.True(t, got.Equal(phoneInstant(got.UTC().Format(time.RFC3339Nano), today)))
	})
}
