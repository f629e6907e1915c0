package rig

import (
	"errors"
	"slices"
)

// Ends is a list of functions that end what was started, called last first.
type Ends []func() error

// Add adds a function.
func (e *Ends) Add(end func() error) { *e = append(*e, end) }

// Close calls all functions, even after a failure, and empties the list.
func (e *Ends) Close() error {
	var errs []error
	for _, end := range slices.Backward(*e) {
		errs = append(errs, end())
	}
	*e = nil
	return errors.Join(errs...)
}
