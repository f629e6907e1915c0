package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// settings are the flags of a command, one for each field with a help tag. The
// other tags are: env, the variable's name; default; enum, the allowed values;
// required; arg, for a flag whose values may also be given without the flag;
// sep:"none", for a list whose items may contain a comma; secret, for a variable
// whose value may be in a file, which the variable with _FILE after its name names,
// and, as the tag's value, the field that keeps the path.
// A []byte is the content of the file that the flag names, or the content itself.
type settings struct {
	*pflag.FlagSet
	tags map[*pflag.Flag]reflect.StructTag
	// files are the fields that keep the path of the file that a secret was read from.
	files map[*pflag.Flag]*string
}

// settingsOf returns the settings of the struct that options points to, and
// of the structs that it embeds. It does not change the struct; fill does.
func settingsOf(options any) settings {
	s := settings{pflag.NewFlagSet("", pflag.ContinueOnError), map[*pflag.Flag]reflect.StructTag{}, map[*pflag.Flag]*string{}}
	s.SortFlags = false
	v := reflect.ValueOf(options).Elem()
	for _, field := range reflect.VisibleFields(v.Type()) {
		if field.Tag.Get("help") != "" {
			f := s.add(field, v.FieldByIndex(field.Index).Addr().Interface())
			if path := field.Tag.Get("secret"); path != "" {
				s.files[f], _ = reflect.TypeAssert[*string](v.FieldByName(path).Addr())
			}
		}
	}
	return s
}

// add adds and returns the flag of one field. The flag is named after the variable,
// without its prefix (--jwt-secret for DOORSTEP_JWT_SECRET), or after the
// field if it has no variable.
func (s settings) add(field reflect.StructField, value any) *pflag.Flag {
	name, help := strings.ToLower(field.Name), field.Tag.Get("help")
	if _, required := field.Tag.Lookup("required"); required {
		help += " Required."
	}
	if env := field.Tag.Get("env"); env != "" {
		name = strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(env, prefix), "_", "-"))
		help += " ($" + env
		if _, secret := field.Tag.Lookup("secret"); secret {
			help += ", $" + env + inFile
		}
		help += ")"
	}
	switch to := value.(type) {
	case *string:
		s.StringVar(to, name, *to, help)
	case *time.Duration:
		s.DurationVar(to, name, *to, help)
	case *bool:
		s.BoolVar(to, name, *to, help)
		s.BoolFunc("no-"+name, "The opposite of --"+name+".", func(text string) error {
			on, err := strconv.ParseBool(text)
			*to = !on
			return err
		})
		s.Lookup("no-" + name).Hidden = field.Tag.Get("default") != "true"
	case *int:
		s.IntVar(to, name, *to, help)
	case *uint64:
		s.Uint64Var(to, name, *to, help)
	case *float64:
		s.Float64Var(to, name, *to, help)
	case *slog.Level:
		s.TextVar(to, name, *to, help)
	case *[]int64:
		s.Int64SliceVar(to, name, *to, help)
		s.Lookup(name).DefValue = "" // pflag would print []
	case *[]string:
		list := s.StringSliceVar
		if field.Tag.Get("sep") == "none" {
			list = s.StringArrayVar
		}
		list(to, name, *to, help)
	case *[]byte:
		s.Func(name, help, func(text string) (err error) {
			*to, err = content(text)
			return err
		})
	}
	f := s.Lookup(name)
	s.tags[f] = field.Tag
	if text := field.Tag.Get("default"); text != "" {
		f.DefValue = text
	}
	return f
}

// fill sets the options from the defaults, the environment and the arguments,
// each over the one before.
func (s settings) fill(args []string, lookup func(string) (string, bool)) (err error) {
	var arg *pflag.Flag
	s.VisitAll(func(f *pflag.Flag) {
		text, given, problem := s.environment(f, lookup)
		if err == nil {
			err = problem
		}
		if !given {
			text, given = s.tags[f].Lookup("default")
		}
		if given && err == nil {
			err = s.set(f, text)
		}
		if _, is := s.tags[f].Lookup("arg"); is {
			arg = f
		}
		_, list := f.Value.(pflag.SliceValue)
		f.Changed = f.Changed && !list // the arguments begin a list anew
	})
	if err == nil {
		err = s.ParseAll(args, s.set)
	}
	if err == nil && arg == nil && s.NArg() > 0 {
		return fmt.Errorf("unknown: %s", s.Arg(0))
	}
	for _, text := range s.Args() {
		if err == nil {
			err = s.set(arg, text)
		}
	}
	s.VisitAll(func(f *pflag.Flag) {
		if _, required := s.tags[f].Lookup("required"); required && err == nil && !f.Changed {
			err = s.wrong(f, errors.New("missing"))
		}
	})
	return err
}

// inFile at the end of a variable's name says that its value is in a file.
const inFile = "_FILE"

// environment is what the environment says of a flag.
func (s settings) environment(f *pflag.Flag, lookup func(string) (string, bool)) (text string, given bool, err error) {
	name := s.tags[f].Get("env")
	text, given = lookup(name)
	if _, secret := s.tags[f].Lookup("secret"); !secret {
		return text, given, nil
	}
	path, named := lookup(name + inFile)
	switch {
	case !named || path == "":
		return text, given, nil
	case text != "":
		return "", false, fmt.Errorf("$%s, $%s%s: both are set", name, name, inFile)
	}
	held, err := os.ReadFile(path)
	if err != nil {
		return "", false, fmt.Errorf("$%s%s: %w", name, inFile, err)
	}
	if keep := s.files[f]; keep != nil {
		*keep = path
	}
	return strings.TrimRight(string(held), "\r\n"), true, nil
}

// content is text itself where it is JSON or PEM, and else the file that it names. An
// error does not repeat text, which may be a secret in another form.
func content(text string) ([]byte, error) {
	if begin := strings.TrimSpace(text); strings.HasPrefix(begin, "{") || strings.HasPrefix(begin, "[") || strings.HasPrefix(begin, "-----BEGIN ") {
		return []byte(text), nil
	}
	if text == "" {
		return nil, nil
	}
	held, err := os.ReadFile(text)
	if wrapped := (*fs.PathError)(nil); errors.As(err, &wrapped) {
		err = fmt.Errorf("the file cannot be read: %w", wrapped.Err)
	}
	return held, err
}

// set reads text into the field, at the end of a list that has been changed.
func (s settings) set(f *pflag.Flag, text string) error {
	list, many := f.Value.(pflag.SliceValue)
	if many && !f.Changed {
		_ = list.Replace(nil)
	}
	f.Changed = true
	if err := f.Value.Set(text); err != nil {
		return s.wrong(f, err)
	}
	values := []string{f.Value.String()}
	if many {
		values = list.GetSlice()
	}
	enum, limited := s.tags[f].Lookup("enum")
	if limited && slices.ContainsFunc(values, func(v string) bool { return !slices.Contains(strings.Split(enum, ","), v) }) {
		return s.wrong(f, errors.New("must be one of "+strings.ReplaceAll(enum, ",", ", ")))
	}
	return nil
}

// wrong names a setting by both names, for either may be wrong.
func (s settings) wrong(f *pflag.Flag, err error) error {
	if env := s.tags[f].Get("env"); env != "" {
		return fmt.Errorf("--%s ($%s): %w", f.Name, env, err)
	}
	return fmt.Errorf("--%s: %w", f.Name, err)
}
