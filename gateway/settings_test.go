package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type Embedded struct {
	Listen string `default:"here" env:"DOORSTEP_LISTEN" help:"."`
}

type every struct {
	Embedded
	TTL    time.Duration `default:"1m" env:"DOORSTEP_TTL" help:"."`
	Level  slog.Level    `default:"info" help:"."`
	Role   string        `enum:"trainer,student" help:"."`
	On     bool          `default:"true" env:"DOORSTEP_ON" help:"."`
	Off    bool          `help:"."`
	Count  int           `default:"3" help:"."`
	Seed   uint64        `help:"."`
	Share  float64       `help:"."`
	Shadow []string      `enum:"a,b" env:"DOORSTEP_SHADOW" help:"."`
	File   []byte        `env:"DOORSTEP_CONTENT" help:"."`
	Key    string        `secret:"" env:"DOORSTEP_KEY" help:"."`
	Trace  []string      `sep:"none" help:"."`
	Seq    []int64       `arg:"" help:"."`
	Own    string        // no setting
}

func filled(e *every, env map[string]string, args ...string) error {
	return settingsOf(e).fill(args, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
}

func TestFill(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("content\n"), 0o600))
	byDefault := every{Embedded: Embedded{"here"}, TTL: time.Minute, On: true, Count: 3}
	for name, row := range map[string]struct {
		env  map[string]string
		args []string
		want func(*every)
	}{
		"nothing":                  {nil, nil, func(*every) {}},
		"the environment":          {map[string]string{"DOORSTEP_TTL": "2s", "DOORSTEP_ON": "false", "DOORSTEP_SHADOW": "a,b"}, nil, func(e *every) { e.TTL, e.On, e.Shadow = 2*time.Second, false, []string{"a", "b"} }},
		"an empty environment":     {map[string]string{"DOORSTEP_LISTEN": "", "DOORSTEP_CONTENT": ""}, nil, func(e *every) { e.Listen = "" }},
		"flags over environment":   {map[string]string{"DOORSTEP_TTL": "2s", "DOORSTEP_SHADOW": "a"}, []string{"--ttl=3s", "--shadow=b"}, func(e *every) { e.TTL, e.Shadow = 3*time.Second, []string{"b"} }},
		"a value of its own":       {nil, []string{"--ttl", "3s", "--count", "-4"}, func(e *every) { e.TTL, e.Count = 3*time.Second, -4 }},
		"switches":                 {nil, []string{"--no-on", "--off"}, func(e *every) { e.On, e.Off = false, true }},
		"switches with values":     {nil, []string{"--on=false", "--no-off=false"}, func(e *every) { e.On, e.Off = false, true }},
		"numbers":                  {nil, []string{"--seed=7", "--share=0.5", "--level=debug", "--role=student"}, func(e *every) { e.Seed, e.Share, e.Level, e.Role = 7, 0.5, slog.LevelDebug, "student" }},
		"a list in one":            {nil, []string{"--shadow=a,b"}, func(e *every) { e.Shadow = []string{"a", "b"} }},
		"a list, again":            {nil, []string{"--shadow=a", "--shadow=b"}, func(e *every) { e.Shadow = []string{"a", "b"} }},
		"a list with commas":       {nil, []string{"--trace=a,b", "--trace", "c"}, func(e *every) { e.Trace = []string{"a,b", "c"} }},
		"a file":                   {map[string]string{"DOORSTEP_CONTENT": file}, nil, func(e *every) { e.File = []byte("content\n") }},
		"a file's content":         {map[string]string{"DOORSTEP_CONTENT": `{"a":1}`}, nil, func(e *every) { e.File = []byte(`{"a":1}`) }},
		"a certificate":            {nil, []string{"--content=-----BEGIN X"}, func(e *every) { e.File = []byte("-----BEGIN X") }},
		"a secret in a file":       {map[string]string{"DOORSTEP_KEY_FILE": file}, nil, func(e *every) { e.Key = "content" }},
		"an empty one beside it":   {map[string]string{"DOORSTEP_KEY_FILE": file, "DOORSTEP_KEY": ""}, nil, func(e *every) { e.Key = "content" }},
		"a flag over the file":     {map[string]string{"DOORSTEP_KEY_FILE": file}, []string{"--key=own"}, func(e *every) { e.Key = "own" }},
		"no file":                  {map[string]string{"DOORSTEP_CONTENT": file}, []string{"--content="}, func(*every) {}},
		"arguments between flags":  {nil, []string{"1", "--off", "2"}, func(e *every) { e.Off, e.Seq = true, []int64{1, 2} }},
		"arguments by their flag":  {nil, []string{"--seq=1", "2", "--", "-3"}, func(e *every) { e.Seq = []int64{1, 2, -3} }},
		"a value that is a flag's": {nil, []string{"--listen=--off"}, func(e *every) { e.Listen = "--off" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, want := every{}, byDefault
			row.want(&want)
			require.NoError(t, filled(&got, row.env, row.args...))
			assert.Equal(t, want, got)
		})
	}
}

func TestFill_refuses(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		env  map[string]string
		args []string
		says string
	}{
		"a flag that is none":    {nil, []string{"--fast"}, "--fast"},
		"a short flag":           {nil, []string{"-x"}, "-x"},
		"no field of ours":       {nil, []string{"--own=x"}, "--own"},
		"no without a switch":    {nil, []string{"--no-ttl"}, "--no-ttl"},
		"no value":               {nil, []string{"--ttl"}, "--ttl"},
		"a number that is none":  {nil, []string{"--count=x"}, `--count: strconv.ParseInt: parsing "x": invalid syntax`},
		"an argument":            {nil, []string{"x"}, "--seq"},
		"a switch's value":       {nil, []string{"--no-on=x"}, "--no-on"},
		"a value of two":         {nil, []string{"--role=trainer,student"}, "trainer, student"},
		"a level that is none":   {nil, []string{"--level=x"}, "--level"},
		"one of none":            {nil, []string{"--role=root"}, "trainer, student"},
		"one of none, in a list": {nil, []string{"--shadow=a,c"}, "--shadow"},
		"a variable's value":     {map[string]string{"DOORSTEP_TTL": "5"}, nil, "$DOORSTEP_TTL"},
		"a file that is none":    {nil, []string{"--content=/nowhere/x"}, "--content"},
		"a secret's file":        {map[string]string{"DOORSTEP_KEY_FILE": "/nowhere/x"}, nil, "$DOORSTEP_KEY_FILE: open /nowhere/x"},
		"a secret twice":         {map[string]string{"DOORSTEP_KEY_FILE": "/x", "DOORSTEP_KEY": "x"}, nil, "both are set"},
		"a variable for another": {map[string]string{"DOORSTEP_ON": "maybe"}, []string{"--on"}, "$DOORSTEP_ON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, filled(new(every), row.env, row.args...), row.says)
		})
	}
	require.ErrorContains(t, settingsOf(new(healthCommand)).fill([]string{"now"}, func(string) (string, bool) { return "", false }), "unknown: now")
	require.ErrorContains(t, settingsOf(new(migrateCommand)).fill(nil, func(string) (string, bool) { return "", false }), "--database-url ($DOORSTEP_DATABASE_URL): missing")
}

// An empty one is given: PostgreSQL's own variables say the rest.
func TestFill_takes_an_empty_value_for_given(t *testing.T) {
	t.Parallel()
	require.NoError(t, settingsOf(new(migrateCommand)).fill(nil, func(name string) (string, bool) { return "", name == "DOORSTEP_DATABASE_URL" }))
}

// main looks at every command's settings once one is filled.
func TestSettingsOf_writes_nothing(t *testing.T) {
	t.Parallel()
	var e every
	require.NoError(t, filled(&e, map[string]string{"DOORSTEP_SHADOW": "a"}, "--no-on", "--ttl=3s", "--listen=x", "--level=warn", "1"))
	before := e
	settingsOf(&e)
	assert.Equal(t, before, e)
}

// A zero that an operator writes is a zero: rows are kept for ever, and not for the default.
func TestSettings_retention_of_zero(t *testing.T) {
	t.Parallel()
	var s serveCommand
	environment := map[string]string{"DOORSTEP_KEEP_ANALYTICS_DAYS": "0"}
	lookup := func(name string) (string, bool) { text, ok := environment[name]; return text, ok }
	require.NoError(t, settingsOf(&s).fill([]string{"--keep-events-days=0"}, lookup))
	require.Equal(t, []int{0, 30, 0, 180}, []int{s.KeepEvents, s.KeepDeadLetters, s.KeepAnalytics, s.KeepPushTokens})
}

// ECS puts a secret's content into the variable. One in a form that is not known must not come back in the error.
func TestFill_repeats_no_content(t *testing.T) {
	t.Parallel()
	err := filled(new(every), map[string]string{"DOORSTEP_CONTENT": "aHVudGVyMg=="})
	require.ErrorContains(t, err, "$DOORSTEP_CONTENT")
	require.NotContains(t, err.Error(), "aHVudGVyMg")
}

func TestUnknownSettings(t *testing.T) {
	t.Parallel()
	for _, fine := range []string{
		"DOORSTEP_DATABASE_URL", "DOORSTEP_DATABASE_URL_FILE", "DOORSTEP_SERVICE_HOST", "DOORSTEP_GATEWAY_SERVICE_PORT",
		"DOORSTEP_GATEWAY_SERVICE_PORT_HTTP", "DOORSTEP_PORT", "DOORSTEP_PORT_8080_TCP", "DOORSTEP_PORT_8080_TCP_ADDR", "OTHER",
	} {
		require.NoError(t, unknownSettings(commands(), []string{fine + "=x"}), fine)
	}
	err := unknownSettings(commands(), []string{"DOORSTEP_VALKEY_URI=hunter2", "DOORSTEP_METRICS_LISTEN_FILE=x"})
	require.ErrorContains(t, err, "DOORSTEP_VALKEY_URI (nearest: DOORSTEP_VALKEY_URL)")
	require.ErrorContains(t, err, "DOORSTEP_METRICS_LISTEN_FILE (nearest: DOORSTEP_METRICS_LISTEN)")
	require.NotContains(t, err.Error(), "hunter2")
}

// A variable that a command does not read is accepted in its environment all the same,
// because serve reads it. So a command must read what changes what it does: it would
// be ignored and nobody would know. A new setting of serve needs a place here.
func TestCommands_ignore_no_setting_that_concerns_them(t *testing.T) {
	t.Parallel()
	all := map[string]map[string]reflect.StructTag{}
	for _, c := range commands() {
		all[c.name] = map[string]reflect.StructTag{}
		for _, tag := range settingsOf(c.runner).tags {
			if variable := tag.Get("env"); variable != "" {
				all[c.name][variable] = tag
			}
		}
	}
	for name, row := range map[string]struct{ concerns, but string }{
		// A worker has no API, makes no event, judges no fix and deletes nothing.
		"worker": {`.*`, `LISTEN|TLS_.*|PUBLIC_URL|REGIONS.*|STEER.*|JW.*|ISSUERS|.*ORIGINS|PAGES.*|FRAME_.*|MAP_.*|SHARE_.*|OTP_.*|CALLER_.*|TRUSTED_.*|(READ|WRITE|IDLE)_TIMEOUT|DRAIN_DELAY|` +
			`EVENT.*|LOCATION_EVENTS|WEBHOOK_.*|SILENCE_REPORT|RATE_.*|MAX_.*|CEILING_.*|.*_ACCURACY|ARRIVAL_FRESHNESS|APPROACH_FOR|SHADOW|DETOUR|KEEP_.*|DATABASE_READER_URL`},
		"migrate":        {`DATABASE_.*`, `DATABASE_READER_URL|DATABASE_MAX_CONNS`},
		"outbox list":    {`DATABASE_.*`, `DATABASE_READER_URL|DATABASE_MAX_CONNS`},
		"outbox requeue": {`DATABASE_.*`, `DATABASE_READER_URL|DATABASE_MAX_CONNS`},
		"token":          {`JWT_.*`, `JWT_(OLD_SECRET|DISCOVERY|UNCHECKED|LEEWAY)`},
		"health":         {`LISTEN|METRICS_LISTEN|TLS_CERT`, `^$`},
	} {
		concerns, but := regexp.MustCompile(`^`+prefix+`(`+row.concerns+`)$`), regexp.MustCompile(`^`+prefix+`(`+row.but+`)$`)
		shared := 0
		for variable, of := range all["serve"] {
			own, reads := all[name][variable]
			if !concerns.MatchString(variable) || but.MatchString(variable) {
				assert.False(t, reads, "%s reads %s", name, variable)
				continue
			}
			shared++
			if assert.True(t, reads, "%s ignores %s", name, variable) {
				assert.Equal(t, of.Get("default"), own.Get("default"), "%s, %s", name, variable)
			}
		}
		assert.NotZero(t, shared, name)
	}
}
