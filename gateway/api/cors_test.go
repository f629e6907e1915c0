package api_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"doorstep/gateway/api"
)

func TestParseOrigin(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://app.example.com": "https://app.example.com", "HTTPS://App.Example.com": "https://app.example.com",
		"https://app.example.com:443": "https://app.example.com", "http://app.example.com:80": "http://app.example.com",
		"https://app.example.com:80": "https://app.example.com:80", "http://localhost:3000": "http://localhost:3000", "http://[::1]:443": "http://[::1]:443",
		"": "", "*": "", "null": "", "app.example.com": "", "//app.example.com": "", "https://": "", "https://:443": "", "ftp://app.example.com": "",
		"https://app.example.com/": "", "https://app.example.com?x": "", "https://app.example.com#x": "", "https://user@app.example.com": "",
		"https://*.example.com": "", "https://app.example.com:x": "", "mailto:x@example.com": "",
	} {
		got, err := api.ParseOrigin(text)
		assert.Equal(t, want, got, text)
		assert.Equal(t, want == "", err != nil, text)
	}
}
