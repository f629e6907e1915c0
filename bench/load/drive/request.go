package drive

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"doorstep/sessions"
)

const trackingPath = "/api/v1/admin/location-tracking/journey/"

func get(path, token string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: doorstep\r\nAuthorization: Bearer %s\r\n\r\n", path, token)
}

func post(path, token, body string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: doorstep\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, token, len(body), body)
}

// The places of a position in an update's body, by width: 52.1234567 and 5.1234567.
const latHere, lngHere = "LLLLLLLLLL", "GGGGGGGGG"

// updateRequest is an update with the fields of docs/origin.md's example, and
// where in the request the latitude and the longitude belong.
func updateRequest(session sessions.ID, token string) (request []byte, lat, lng int) {
	request = post(trackingPath+"updates", token, fmt.Sprintf(
		`{"sessionId":%q,"latitude":%s,"longitude":%s,"accuracy":8.5,"speed":40.0,"heading":90.0}`, session, latHere, lngHere))
	return request, bytes.Index(request, []byte(latHere)), bytes.Index(request, []byte(lngHere))
}

// setDegrees writes 1e-7 degrees over len(at) bytes.
func setDegrees(at []byte, e7 int64) {
	for i := len(at) - 1; i >= 0; i-- {
		if i == len(at)-8 {
			at[i] = '.'
			continue
		}
		at[i] = byte('0' + e7%10)
		e7 /= 10
	}
}

// liveRequest reads once, without the blank line at its end where a header may
// follow.
func liveRequest(session sessions.ID, token string, waitS int) []byte {
	path := trackingPath + "live?sessionId=" + string(session)
	if waitS > 0 {
		path += "&wait=" + strconv.Itoa(waitS)
	}
	return bytes.TrimSuffix(get(path, token), []byte("\r\n"))
}

// placeOf finds the position in the JSON of a live read, in 1e-7 degrees.
// Decoding all of it would cost as much again as reading the answer.
func placeOf(body []byte) (lat, lng int64, ok bool) {
	lat, known := e7After(body, `"latitude":`)
	lng, ok = e7After(body, `"longitude":`)
	return lat, lng, known && ok
}

func e7After(body []byte, name string) (e7 int64, ok bool) {
	_, rest, _ := bytes.Cut(body, []byte(name))
	end := bytes.IndexAny(rest, ",}")
	if end < 0 {
		return 0, false
	}
	degrees, err := strconv.ParseFloat(string(rest[:end]), 64)
	return int64(math.Round(1e7 * degrees)), err == nil
}

// ended reports that a live read shows a journey that is over.
func ended(body []byte) bool { return bytes.Contains(body, []byte(`"isActive":false`)) }

// codeOf is the code of a refusal; empty where there is none.
func codeOf(a answer) string {
	if a.status < http.StatusBadRequest {
		return ""
	}
	_, rest, _ := bytes.Cut(a.body, []byte(`"code":"`))
	code, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(code)
}
