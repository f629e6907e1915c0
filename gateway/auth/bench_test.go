package auth

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// benched is a Verifier with keys for everything and the real clock's cost.
func benched(b *testing.B) bundle {
	b.Helper()
	v := setup(b, func(o *Options) {
		o.Issuers[0].JWKSURL = "https://issuer.test/jwks.json"
		began := time.Now()
		o.Clock = func() time.Time { return testNow.Add(time.Since(began)) }
	})
	set, _, err := parseKeys(threeKeys(b))
	require.NoError(b, err)
	v.issuers[0].keys.current.Store(&set)
	return v
}

// A miss: the whole work. What a caller pays once a cacheTTL.
func BenchmarkVerify_Miss(b *testing.B) {
	for name, spec := range map[string]tokenSpec{
		"HS256": {}, "RS256": rs256("rsa"), "ES256": es256("ec"), "EdDSA": eddsa("ed"),
	} {
		b.Run(name, func(b *testing.B) {
			v, token := benched(b), spec.sign(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.prove(b.Context(), token, testNow); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A hit: budget 1 µs and one allocation.
func BenchmarkVerify_Hit(b *testing.B) {
	for name, spec := range map[string]tokenSpec{"HS256": {}, "RS256": rs256("rsa")} {
		b.Run(name, func(b *testing.B) {
			v, token := benched(b), spec.sign(b)
			v.accepts(b, token)
			b.ReportAllocs()
			ctx := b.Context()
			for b.Loop() {
				if _, err := v.Verify(ctx, []byte(token)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(token)), "token-B")
		})
	}
}

// A full cache and other goroutines: what a busy gateway sees.
func BenchmarkVerify_HitParallelFullCache(b *testing.B) {
	v := benched(b)
	tokens := make([]string, 4096)
	for i := range tokens {
		tokens[i] = tokenSpec{claims: map[string]any{"jti": i}}.sign(b)
		v.accepts(b, tokens[i])
	}
	for n := range uint64(200_000 - len(tokens)) {
		v.cache.put(number(n), always)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := v.Verify(b.Context(), []byte(tokens[i%len(tokens)])); err != nil {
				b.Error(err)
			}
		}
	})
}

// What strangers can make the gateway spend.
func BenchmarkVerify_Refusal(b *testing.B) {
	good, es256Good := tokenSpec{}.sign(b), es256("ec").sign(b)
	cut := strings.LastIndex(good, ".")
	for name, token := range map[string]string{
		"too_long":       strings.Repeat("a", maxTokenBytes+1),
		"garbage_8KiB":   strings.Repeat("a", maxTokenBytes),
		"forged":         good[:cut+1] + strings.Repeat("A", len(good)-cut-1),
		"forged_8KiB":    tokenSpec{claims: map[string]any{"x": strings.Repeat("[1],", 1450)}, method: jwt.SigningMethodHS256, key: []byte(strings.Repeat("x", 32))}.sign(b),
		"unknown_kid":    rs256("stranger").sign(b),
		"forged_ES256":   es256Good[:len(es256Good)-8] + "AAAAAAAA",
		"expired_signed": tokenSpec{claims: map[string]any{"exp": 1}}.sign(b),
	} {
		b.Run(name, func(b *testing.B) {
			v := benched(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), []byte(token)); err == nil {
					b.Fatal("believed")
				}
			}
		})
	}
}

// A full cache that takes one more.
func BenchmarkCache_PutEvicting(b *testing.B) {
	c := newCache(65536)
	for n := range uint64(70000) {
		c.put(number(n), always)
	}
	b.ReportAllocs()
	n := uint64(70000)
	for b.Loop() {
		n++
		c.put(number(n), always)
	}
}
