package api_test

import (
	"bytes"
	"encoding/base64"
	"image/png"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/internal/servers/postgrestest"
	"doorstep/sessions"
)

// phoneOf makes a device of a trainer's and returns the data of the answer.
func (h *gateway) phoneOf(t testing.TB, trainer string, format sessions.Format) map[string]any {
	t.Helper()
	return h.post(t, trainer, devicesPath, map[string]any{"name": "Ann's", "format": format}).want(t, 201, "").data()
}

func contractDevices(t *testing.T, h *gateway) {
	v := h.book(t)
	h.get(t, v.trainer, devicesPath).want(t, 200, "")
	phone := h.phoneOf(t, v.trainer, sessions.OwnTracks)
	one := devicesPath + "/" + phone["deviceId"].(string)
	list := h.get(t, v.trainer, devicesPath).want(t, 200, "")
	assert.Len(t, list.data()["devices"], 1)
	assert.NotContains(t, string(list.body), "secret")
	kept := h.get(t, v.admin, base+"/admin/users/"+string(v.trainerID)+"/data").want(t, 200, "")
	assert.Equal(t, list.data()["devices"], kept.data()["phones"])
	h.get(t, v.trainer, one+"/setup").want(t, 200, "")

	for _, stranger := range []string{v.student, v.admin, v.trainerAsStudent} {
		h.post(t, stranger, devicesPath, `{"format":"osmand"}`).want(t, 403, sessions.Forbidden)
		h.get(t, stranger, devicesPath).want(t, 403, sessions.Forbidden)
		h.get(t, stranger, one+"/setup").want(t, 403, sessions.Forbidden)
		h.do(t, http.MethodDelete, stranger, one, nil).want(t, 403, sessions.Forbidden)
	}
	h.get(t, v.otherTrainer, one+"/setup").want(t, 404, sessions.DeviceNotFound)
	h.do(t, http.MethodDelete, v.otherTrainer, one, nil).want(t, 204, "")
	assert.Len(t, h.get(t, v.trainer, devicesPath).data()["devices"], 1, "it was not the other trainer's")
	for range 2 {
		h.do(t, http.MethodDelete, v.trainer, one, nil).want(t, 204, "")
		assert.Empty(t, h.get(t, v.trainer, devicesPath).data()["devices"])
	}

	for body, field := range map[string]string{`{}`: "format", `{"format":"gpx"}`: "format", `{"format":1}`: "format", `{"format":"osmand","name":"a\nb"}`: "name", `{"format":"osmand","name":5}`: "name"} {
		refused := h.post(t, v.trainer, devicesPath, body).want(t, 400, sessions.InvalidRequest)
		assert.Equal(t, field, refused.fields["field"], body)
	}
	h.post(t, v.trainer, devicesPath, `format=osmand`, header("Content-Type", "application/x-www-form-urlencoded")).want(t, 415, "UNSUPPORTED_MEDIA_TYPE")
	h.do(t, http.MethodDelete, v.trainer, devicesPath+"/x", nil).want(t, 400, sessions.InvalidRequest)
	h.get(t, v.trainer, devicesPath+"/x/setup").want(t, 400, sessions.InvalidRequest)
	for range sessions.MaxDevices {
		h.phoneOf(t, v.trainer, sessions.OsmAnd)
	}
	h.post(t, v.trainer, devicesPath, `{"format":"osmand"}`).want(t, 409, sessions.TooManyDevices)
}

// Without a public address no device can be made: it would not know where to report.
func withoutPublicURL(t *testing.T, seen *coverage) {
	h := open(t, embedded, func(o *app.Options) { o.DatabaseURL, o.Pages = migrated(t, postgrestest.New(t)), false })
	h.seen = seen
	v := h.book(t)
	h.post(t, v.trainer, devicesPath, `{"format":"osmand"}`, header("Host", "evil.example.com")).want(t, 409, sessions.NotSupported)
	h.get(t, v.trainer, devicesPath+"/"+string(v.id)+"/setup").want(t, 409, sessions.NotSupported)
	h.get(t, v.trainer, devicesPath).want(t, 200, "")
}

// What an app is told: where to report, as whom, and a link with the same.
func TestDevices_setup(t *testing.T) {
	t.Parallel()
	h := open(t, servers)
	v := h.book(t)
	for _, format := range sessions.Formats() {
		phone := h.phoneOf(t, v.trainer, format)
		id, secret, to := phone["deviceId"].(string), phone["secret"].(string), publicURL+base+"/ingest/"+string(format)
		assert.Equal(t, to, phone["url"])
		assert.Equal(t, id, phone["user"])
		key, ok := sessions.ParseDeviceKey(secret)
		assert.True(t, ok)
		assert.Equal(t, id, string(key.ID))
		values := []string{}
		for _, f := range phone["fields"].([]any) {
			values = append(values, f.(map[string]any)["value"].(string))
		}
		assert.Contains(t, values, to)
		assert.Contains(t, values, secret)

		page := h.get(t, v.trainer, strings.TrimPrefix(phone["setupUrl"].(string), publicURL)).want(t, 200, "")
		assert.Contains(t, string(page.body), to)
		assert.NotContains(t, string(page.body), key.Secret)
		assert.NotContains(t, string(page.body), "<script")
		assert.Contains(t, page.header.Get("Content-Security-Policy"), "default-src 'none'")

		link, _ := phone["link"].(string)
		if format == sessions.Transistorsoft {
			assert.Nil(t, phone["link"])
			assert.Nil(t, phone["qr"])
			continue
		}
		u, err := url.Parse(link)
		require.NoError(t, err)
		inside := u.Query().Encode()
		if format == sessions.OwnTracks {
			text, err := base64.StdEncoding.DecodeString(u.Query().Get("inline"))
			require.NoError(t, err)
			var config map[string]any
			require.NoError(t, jsonInto(text, &config))
			assert.Equal(t, []any{"configuration", 3., to, id, secret}, []any{config["_type"], config["mode"], config["url"], config["username"], config["password"]})
			inside = url.QueryEscape(config["url"].(string) + config["password"].(string))
		}
		assert.Contains(t, inside, url.QueryEscape(to))
		assert.Contains(t, inside, secret)
		picture, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(phone["qr"].(string), "data:image/png;base64,"))
		require.NoError(t, err)
		_, err = png.Decode(bytes.NewReader(picture))
		assert.NoError(t, err)
	}
}

// A name is the trainer's own word, and stands in the page as a text.
func TestDevices_setup_escapes_the_name(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	trainer := h.token(t, sessions.NewID(), sessions.Trainer)
	phone := h.post(t, trainer, devicesPath, map[string]any{"name": `<img src=x onerror="alert(1)">`, "format": "overland"}).want(t, 201, "").data()
	assert.Equal(t, h.url+base+"/ingest/overland", phone["url"], "embedded, the address of the listener serves")
	page := h.get(t, trainer, devicesPath+"/"+phone["deviceId"].(string)+"/setup").want(t, 200, "")
	assert.NotContains(t, string(page.body), "<img src=x")
	assert.Contains(t, string(page.body), "&lt;img src=x")
}

// The secret is in no table: only its hash is.
func TestDevices_secret_is_not_stored(t *testing.T) {
	t.Parallel()
	h := open(t, servers)
	phone := h.phoneOf(t, h.token(t, sessions.NewID(), sessions.Trainer), sessions.OsmAnd)
	key, _ := sessions.ParseDeviceKey(phone["secret"].(string))
	database, err := pgx.Connect(t.Context(), h.databaseURL)
	require.NoError(t, err)
	defer func() { _ = database.Close(t.Context()) }()
	var row string
	require.NoError(t, database.QueryRow(t.Context(), `SELECT devices::text FROM devices WHERE id = $1`, string(key.ID)).Scan(&row))
	assert.NotContains(t, row, key.Secret)
	assert.NotContains(t, row, base64.StdEncoding.EncodeToString([]byte(key.Secret)))
}
