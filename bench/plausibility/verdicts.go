package main

import (
	"encoding/csv"
	"errors"
	"io"
	"os"
	"strconv"
)

// writeVerdicts writes one line for each fix that was sent, in the recording's
// own numbering and clock, so that others can draw their own conclusions.
func writeVerdicts(path string, recordings []recording, f findings) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return verdictLines(file, recordings, f)
}

func verdictLines(w io.Writer, recordings []recording, f findings) error {
	out := csv.NewWriter(w)
	// Errors stick to the writer and come back from Flush.
	_ = out.Write([]string{"file", "seq", "unix_ms", "mode", "verdict", "flags"})
	for _, r := range recordings {
		for _, s := range f.sent[r.file] {
			_ = out.Write([]string{
				r.file, strconv.Itoa(s.Seq), strconv.FormatInt(s.RecordedMS, 10),
				string(r.mode), s.verdict, s.flags.String(),
			})
		}
	}
	out.Flush()
	return out.Error()
}
