package demo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"doorstep/geo"
	"doorstep/geo/trace"
)

// Playlist is what will be played and what had to be left out.
type Playlist struct {
	Plans      []Plan
	Recordings int // files read; 0: generated
	Dropped    int // stretches of recordings under a minute
}

// Load reads recordings: each of names is a file, a folder (its *.csv) or a
// pattern. A name that matches nothing, or a file that cannot be read, is an
// error with that name in it.
func Load(names []string, mode geo.Mode) (Playlist, error) {
	var list Playlist
	for _, name := range names {
		files, err := recordings(name)
		if err != nil {
			return list, err
		}
		for _, file := range files {
			if err := list.add(file, mode); err != nil {
				return list, err
			}
		}
	}
	if len(list.Plans) == 0 {
		return list, errors.New("trace: no journey of a minute or more in the recordings")
	}
	return list, nil
}

func recordings(name string) ([]string, error) {
	info, err := os.Stat(name)
	switch {
	case err == nil && !info.IsDir():
		return []string{name}, nil
	case err == nil:
		name = filepath.Join(name, "*.csv")
	}
	files, err := filepath.Glob(name)
	if err != nil {
		return nil, fmt.Errorf("trace: %s: %w", name, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("trace: %s: no such recording", name)
	}
	slices.Sort(files)
	return files, nil
}

func (l *Playlist) add(file string, mode geo.Mode) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	fixes, err := trace.Read(f)
	_ = f.Close() // nothing was written
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	plans, dropped := Recorded(file, mode, fixes)
	l.Plans = append(l.Plans, plans...)
	l.Dropped += dropped
	l.Recordings++
	return nil
}
