package main

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setting is one field of a command that has a help tag, and so a flag. The tags
// are: help; env, the variable; default; enum, what it may be; required; arg,
// for what stands without a flag; sep:"none", for a list whose items may hold a
// comma. A []byte is the content of a file that is named.
type setting struct {
	reflect.StructField
	value reflect.Value
	given bool // by a flag or the environment
}

// settingsOf are the settings of a pointer to a struct and of what it embeds.
func settingsOf(options any) (list []*setting) {
	v := reflect.ValueOf(options).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		switch {
		case f.Anonymous:
			list = append(list, settingsOf(v.Field(i).Addr().Interface())...)
		case f.Tag.Get("help") != "":
			list = append(list, &setting{StructField: f, value: v.Field(i)})
		}
	}
	return list
}

// flag is the variable's name without its prefix, or else the field's:
// DOORSTEP_JWT_SECRET and --jwt-secret.
func (s *setting) flag() string {
	if env := s.Tag.Get("env"); env != "" {
		return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(env, prefix), "_", "-"))
	}
	return strings.ToLower(s.Name)
}

func (s *setting) has(tag string) bool { _, ok := s.Tag.Lookup(tag); return ok }

// fill sets the options from the defaults, the environment and the arguments,
// each over the one before.
func fill(settings []*setting, args []string, lookup func(string) (string, bool)) error {
	for _, s := range settings {
		if err := s.begin(lookup); err != nil {
			return err
		}
	}
	if err := parse(settings, args); err != nil {
		return err
	}
	for _, s := range settings {
		if s.has("required") && !s.given {
			return fmt.Errorf("missing: %s", s.name())
		}
	}
	return nil
}

func (s *setting) begin(lookup func(string) (string, bool)) error {
	if text := s.Tag.Get("default"); text != "" {
		if err := s.set(text); err != nil {
			return err
		}
		s.given = false
	}
	if env := s.Tag.Get("env"); env != "" {
		if text, ok := lookup(env); ok {
			return s.set(text)
		}
	}
	return nil
}

// parse reads the arguments. A list that is given again grows; what the
// environment said of it is gone.
func parse(settings []*setting, args []string) error {
	again := map[*setting]bool{}
	for len(args) > 0 {
		name, isFlag := strings.CutPrefix(args[0], "--")
		name, text, with := strings.Cut(name, "=")
		s, bare := find(settings, name, isFlag)
		switch {
		case s == nil:
			return fmt.Errorf("unknown: %s", args[0])
		case !isFlag:
			text = args[0]
		case !with && bare != "":
			text = bare
		case !with && len(args) < 2:
			return fmt.Errorf("%s: a value is missing", s.name())
		case !with:
			text, args = args[1], args[1:]
		}
		args = args[1:]
		if s.value.Kind() == reflect.Slice && !again[s] {
			s.value.SetZero()
		}
		again[s] = true
		if err := s.set(text); err != nil {
			return err
		}
	}
	return nil
}

// find is the setting of a flag, and the value of one that was given none: of a
// switch.
func find(settings []*setting, name string, isFlag bool) (s *setting, bare string) {
	for _, s := range settings {
		isSwitch := s.value.Kind() == reflect.Bool
		switch {
		case s.has("arg") || !isFlag:
			if s.has("arg") != isFlag {
				return s, ""
			}
		case s.flag() == name && isSwitch:
			return s, "true"
		case s.flag() == name:
			return s, ""
		case isSwitch && name == "no-"+s.flag():
			return s, "false"
		}
	}
	return nil, ""
}

// set reads text into the field, and says which one it does not suit.
func (s *setting) set(text string) error {
	s.given = true
	texts := []string{text}
	if s.value.Type() == reflect.TypeFor[[]string]() && s.Tag.Get("sep") != "none" {
		texts = strings.Split(text, ",")
	}
	allowed := strings.Split(s.Tag.Get("enum"), ",")
	for _, text := range texts {
		if s.has("enum") && !slices.Contains(allowed, text) {
			return fmt.Errorf("%s: must be one of %s", s.name(), strings.Join(allowed, ", "))
		}
		if err := read(s.value, text); err != nil {
			return fmt.Errorf("%s: %w", s.name(), err)
		}
	}
	return nil
}

// read reads text into v, at the end of a list.
func read(v reflect.Value, text string) (err error) {
	switch to := v.Addr().Interface().(type) {
	case encoding.TextUnmarshaler:
		return to.UnmarshalText([]byte(text))
	case *time.Duration:
		*to, err = time.ParseDuration(text)
	case *[]byte:
		if text != "" {
			*to, err = os.ReadFile(text) //nolint:gosec // the operator names it
		}
	case *[]string:
		if text != "" {
			*to = append(*to, text)
		}
	case *[]int64:
		var n int64
		n, err = strconv.ParseInt(text, 10, 64)
		*to = append(*to, n)
	case *bool:
		*to, err = strconv.ParseBool(text)
	case *int:
		*to, err = strconv.Atoi(text)
	case *uint64:
		*to, err = strconv.ParseUint(text, 10, 64)
	case *float64:
		*to, err = strconv.ParseFloat(text, 64)
	default:
		v.SetString(text)
	}
	if syntax, ok := errors.AsType[*strconv.NumError](err); ok {
		err = syntax.Err
	}
	return err
}

// name is how an error names it: by both names, for either may be wrong.
func (s *setting) name() string {
	switch env := s.Tag.Get("env"); {
	case s.has("arg"):
		return "<" + s.flag() + ">"
	case env == "":
		return "--" + s.flag()
	default:
		return "--" + s.flag() + " ($" + env + ")"
	}
}

// help prints two lines a setting.
func (s *setting) help(w io.Writer) {
	flag, byDefault := "--"+s.flag(), s.Tag.Get("default")
	switch {
	case s.has("arg"):
		flag = "[<" + s.flag() + "> ...]"
	case s.value.Kind() == reflect.Bool && byDefault == "true":
		flag = "--[no-]" + s.flag()
	case s.value.Kind() == reflect.Bool:
	case byDefault != "":
		flag += "=" + byDefault
	case s.value.Type() == reflect.TypeFor[[]byte]():
		flag += "=FILE"
	default:
		flag += "=…"
	}
	env := s.Tag.Get("env")
	if env != "" {
		env = " ($" + env + ")"
	}
	required := ""
	if s.has("required") {
		required = " Required."
	}
	fmt.Fprintf(w, "  %s\n        %s%s%s\n", flag, s.Tag.Get("help"), required, env)
}
