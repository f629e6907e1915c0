package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/client"
)

// A session of another region is called there from the second request on, while that answers.
func TestClient_calls_the_region_of_a_session(t *testing.T) {
	t.Parallel()
	var away atomic.Bool
	asked := map[string]int{} // by one test's requests, one after the other
	us := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked["us "+r.Header.Get("Prefer")]++
		assert.Equal(t, "Bearer token", r.Header.Get("Authorization"))
		if away.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, `{"success":true,"data":{"phase":"on_the_way"}}`)
	}))
	t.Cleanup(us.Close)
	eu := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked["eu "+r.Header.Get("Prefer")]++
		if r.Header.Get("Prefer") != "redirect" {
			_, _ = io.WriteString(w, `{"success":true,"data":{"phase":"on_the_way","degraded":true}}`)
			return
		}
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"success":false,"code":"WRONG_REGION","message":"","requestId":"1","region":"us","url":"`+us.URL+`/"}`)
	}))
	t.Cleanup(eu.Close)
	c, err := client.New(client.Options{BaseURL: eu.URL, Token: client.StaticToken("token")})
	require.NoError(t, err)
	read := func() client.View {
		v, err := c.Live(t.Context(), "one", client.ReadOptions{})
		require.NoError(t, err)
		return v
	}
	read()
	read()
	assert.Equal(t, map[string]int{"eu redirect": 1, "us ": 1, "us redirect": 1}, asked)

	away.Store(true)
	_, err = c.Live(t.Context(), "one", client.ReadOptions{})
	require.Error(t, err)
	assert.True(t, read().Degraded, "while its region is away, by the first gateway")
	assert.Equal(t, map[string]int{"eu redirect": 1, "us ": 1, "us redirect": 2, "eu ": 1}, asked)
	_, err = c.MySessions(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, asked["eu "], "a call of no session")
}

// Just after a booking was moved two regions may each say that the session is the other's. Who does
// not ask for the URL is answered, by way of one of them.
func TestClient_between_two_regions(t *testing.T) {
	t.Parallel()
	var servers [2]*httptest.Server
	for i := range servers {
		servers[i] = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Prefer") != "redirect" {
				_, _ = io.WriteString(w, `{"success":true,"data":{"phase":"on_the_way"}}`)
				return
			}
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"success":false,"code":"WRONG_REGION","message":"","requestId":"1","region":"the other","url":"`+servers[1-i].URL+`"}`)
		}))
		t.Cleanup(servers[i].Close)
	}
	c, err := client.New(client.Options{BaseURL: servers[0].URL, Token: client.StaticToken("token")})
	require.NoError(t, err)
	for range 3 {
		_, err := c.Live(t.Context(), "one", client.ReadOptions{})
		require.NoError(t, err)
	}
}

// The token goes to no other kind of URL. The first gateway forwards the call.
func TestClient_refuses_a_URL_of_a_region(t *testing.T) {
	t.Parallel()
	here := func(w http.ResponseWriter, r *http.Request, url string) {
		if r.Header.Get("Prefer") != "redirect" {
			_, _ = io.WriteString(w, `{"success":true,"data":{"phase":"on_the_way"}}`)
			return
		}
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"success":false,"code":"WRONG_REGION","message":"","requestId":"1","region":"us","url":"`+url+`"}`)
	}
	for _, url := range []string{"", "ftp://us.example", "https://me@us.example", "https://us.example?x", "//us.example", "us"} {
		eu := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { here(w, r, url) }))
		c, err := client.New(client.Options{BaseURL: eu.URL, Token: client.StaticToken("token")})
		require.NoError(t, err)
		_, err = c.Live(t.Context(), "one", client.ReadOptions{})
		require.NoError(t, err, url)
		eu.Close()
	}
	eu := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { here(w, r, "http://"+r.Host) }))
	t.Cleanup(eu.Close)
	c, err := client.New(client.Options{BaseURL: eu.URL, Token: client.StaticToken("token"), HTTP: eu.Client()})
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(eu.URL, "https://"))
	_, err = c.Live(t.Context(), "one", client.ReadOptions{})
	require.NoError(t, err, "never from https to http")
}
