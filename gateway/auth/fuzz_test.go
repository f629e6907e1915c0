package auth

import (
	"encoding/base64"
	"strings"
	"testing"

	"doorstep/sessions"
)

// FuzzVerify starts from good tokens of every kind. Whatever becomes of them:
// no panic, and a caller only for a token that was really issued, byte for
// byte. (An ECDSA signature has a second valid form, with n-s for s. Finding it
// takes arithmetic, not mutation, and it says the same thing.)
func FuzzVerify(f *testing.F) {
	issued := map[string]bool{}
	for _, spec := range []tokenSpec{{}, rs256("rsa"), es256("ec"), eddsa("ed"), es256("")} {
		token := spec.sign(f)
		issued[token] = true
		f.Add(token)
		f.Add(strings.Replace(token, ".", "..", 1))
		f.Add(token[:len(token)/2])
		f.Add(token + token)
	}
	encode := base64.RawURLEncoding.EncodeToString
	for _, header := range []string{
		`{"alg":"none"}`, `{"alg":"HS256","kid":"rsa"}`, `{"alg":"RS256","kid":"ed"}`,
		`{"alg":"HS256","crit":["b64"],"b64":false}`, `{"alg":"ES256","alg":"none"}`, `null`,
	} {
		f.Add(encode([]byte(header)) + "." + encode([]byte(`{"exp":9999999999,"role":"admin"}`)) + ".")
	}

	set, _, err := parseKeys(threeKeys(f))
	if err != nil {
		f.Fatal(err)
	}
	b := setup(f, func(o *Options) { o.Issuers[0].JWKSURL = "https://issuer.test/jwks.json" })
	b.issuers[0].keys.current.Store(&set)
	f.Fuzz(func(t *testing.T, token string) {
		for range 2 { // once more for the cache
			caller, err := b.Verify(t.Context(), []byte(token))
			switch {
			case err == nil && !issued[token]:
				t.Fatalf("believed %q", token)
			case err == nil && caller != testCaller:
				t.Fatalf("caller is %v", caller)
			case err != nil && issued[token]:
				t.Fatalf("refused a good token: %v", err)
			case err != nil && Reason(err) == reasonOther:
				t.Fatalf("not from the closed list: %v", err)
			case err != nil && caller.ID != "":
				t.Fatalf("a caller and an error: %v", caller)
			}
		}
	})
}

// FuzzOpen feeds claims as if their signature were right: what a broken or
// hostile issuer could sign.
func FuzzOpen(f *testing.F) {
	for _, claims := range []string{
		`{"exp":1773483999,"sub":"7d0c1c3e-6f0a-4b0f-9d5e-2a9f6c1b8e21","role":"admin"}`,
		`{"exp":1773483999,"sub":"auth0|1","realm_access":{"roles":["admin","x"]},"realm_access.roles":null}`,
		`{"exp":1e308,"nbf":-1e308}`, `{"exp":null}`, `{"exp":1773483999,"aud":[[],{}]}`, `null`, `[]`, ``,
	} {
		f.Add([]byte(claims))
	}
	issuer := &trusted{Issuer: Issuer{RoleClaim: "realm_access.roles", SubjectNamespace: testNamespace}.withDefaults()}
	f.Fuzz(func(t *testing.T, claims []byte) {
		got, err := issuer.open(claims, testNow, leeway)
		if err != nil {
			if Reason(err) == reasonOther || got != (grant{}) {
				t.Fatalf("%v, %v", got, err)
			}
			return
		}
		if !proper(got.caller) || !testNow.Before(got.expires) {
			t.Fatalf("granted %v", got)
		}
	})
}

func proper(c sessions.Caller) bool {
	id, ok := sessions.ParseID(string(c.ID))
	return ok && id == c.ID && c.Role != "" && len(c.Roles()) > 0
}
