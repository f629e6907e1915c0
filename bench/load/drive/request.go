package drive

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"

	"doorstep/sessions"
)

const api = "/api/v1/admin"

func get(path, token string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: doorstep\r\nAuthorization: Bearer %s\r\n\r\n", path, token)
}

func post(path, token, body string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: doorstep\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, token, len(body), body)
}

// The places of a position in an update's body, by width: 52.1234567 and 5.1234567.
const latHere, lngHere = "LLLLLLLLLL", "GGGGGGGGG"

// updateRequest is the review's own body of an update, and where in the
// request the latitude and the longitude belong.
func updateRequest(session sessions.ID, token string) (request []byte, lat, lng int) {
	request = post(api+"/location-tracking/journey/updates", token, fmt.Sprintf(
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

func bookRequest(j *journey, token string) []byte {
	return post(api+"/sessions", token, fmt.Sprintf(
		`{"sessionId":%q,"trainerId":%q,"studentId":%q,"studentHome":{"latitude":%.7f,"longitude":%.7f}}`,
		j.session, j.trainer, j.student, j.homeLat, j.homeLng))
}

// changeRequest is start-journey, arrived or stop-journey.
func changeRequest(j *journey, verb string) []byte {
	return post(api+"/sessions/"+string(j.session)+"/"+verb, j.trainerToken, "")
}

// liveRequest reads once, without the blank line at its end where a header may
// follow.
func liveRequest(session sessions.ID, token string, waitS int) []byte {
	path := api + "/location-tracking/journey/live?sessionId=" + string(session)
	if waitS > 0 {
		path += "&wait=" + strconv.Itoa(waitS)
	}
	return bytes.TrimSuffix(get(path, token), []byte("\r\n"))
}

// placeOf finds the position in the JSON of a live read. Whoever wrote it may
// write 52.1 for 52.1000000.
func placeOf(body []byte) (lat, lng int64, ok bool) {
	if lat, ok = e7After(body, `"latitude":`); !ok {
		return 0, 0, false
	}
	lng, ok = e7After(body, `"longitude":`)
	return lat, lng, ok
}

func e7After(body []byte, name string) (e7 int64, ok bool) {
	at := bytes.Index(body, []byte(name))
	if at < 0 {
		return 0, false
	}
	decimals := -1
	for _, c := range body[at+len(name):] {
		switch {
		case c == '.' && decimals < 0:
			decimals = 0
		case c >= '0' && c <= '9' && decimals < 7:
			e7, ok = 10*e7+int64(c-'0'), true
			if decimals >= 0 {
				decimals++
			}
		default:
			for ; decimals < 7; decimals = max(decimals, 0) + 1 {
				e7 *= 10
			}
			return e7, ok
		}
	}
	return 0, false
}

// ended reports that a live read shows a journey that is over.
func ended(body []byte) bool { return bytes.Contains(body, []byte(`"isActive":false`)) }

// codeOf is what a refusal calls itself, if it does.
func codeOf(a answer) string {
	if a.status < http.StatusBadRequest {
		return ""
	}
	_, rest, _ := bytes.Cut(a.body, []byte(`"code":"`))
	code, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(code)
}
