package figures

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"

	"doorstep/bench/load/drive"
)

// Facts are the figures of a run that targets refer to, by a name that has its
// unit in it: the report's numbers for a program to read.
type Facts map[string]float64

// The names that several modes have.
const (
	Failures    = "failures"
	GatewayCore = "gateway_core_percent"
	UpdateP99MS = "update_p99_ms"
	SightP50MS  = "fix_to_eye_p50_ms"
	SightP99MS  = "fix_to_eye_p99_ms"
)

// FactsOf returns the facts with those names of one run.
func FactsOf(r drive.Result, costs []Cost) Facts {
	f := Facts{
		Failures:    float64(r.Failures()),
		UpdateP99MS: At(r.Latencies[drive.Update], 99).Seconds() * 1000,
		SightP50MS:  At(r.Latencies[drive.Sight], 50).Seconds() * 1000,
		SightP99MS:  At(r.Latencies[drive.Sight], 99).Seconds() * 1000,
	}
	for _, c := range costs {
		if c.Name == "gateway" {
			f[GatewayCore] = 100 * c.Core
		}
	}
	return f
}

// Save writes the facts of a run beside its report: dir/name.json. NaN and
// infinity, from a division by zero, mean that nothing was measured, and are left
// out.
func (f Facts) Save(dir, name string) error {
	f = maps.Clone(f)
	maps.DeleteFunc(f, func(_ string, v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("facts: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, name+".json"), append(text, '\n'), 0o600)
}

// ReadFacts reads what Save has written.
func ReadFacts(dir, name string) (Facts, error) {
	text, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if err != nil {
		return nil, err
	}
	f := Facts{}
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("facts of %s: %w", name, err)
	}
	return f, nil
}
