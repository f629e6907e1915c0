package rig

import (
	"errors"
	"slices"
)

// Ends takes down what was started, last first.
type Ends []func() error

// Add has end called when all is taken down.
func (e *Ends) Add(end func() error) { *e = append(*e, end) }

// Close takes everything down, whatever fails, and forgets it.
func (e *Ends) Close() error {
	var errs []error
	for _, end := range slices.Backward(*e) {
		errs = append(errs, end())
	}
	*e = nil
	return errors.Join(errs...)
}
