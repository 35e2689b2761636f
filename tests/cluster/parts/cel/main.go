// cel evaluates expressions as a MutatingAdmissionPolicy of Kubernetes 1.36 does. Standard input has one JSON document
// a line, {"expression": ..., "variables": {...}}; each answer is one line, {"stage", "error", "value", "cost"}.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/mutation"
)

type question struct {
	Expression string                     `json:"expression"`
	Variables  map[string]json.RawMessage `json:"variables"`
}

type answer struct {
	Stage string `json:"stage"`
	Error string `json:"error,omitempty"`
	Value any    `json:"value,omitempty"`
	Cost  uint64 `json:"cost"`
}

func main() {
	base, err := environment.MustBaseEnvSet(version.MajorMinor(1, 36)).Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 36),
		EnvOptions: []cel.EnvOption{
			common.ResolverEnvOption(&mutation.DynamicTypeResolver{}),
			environment.UnversionedLib(library.JSONPatch),
			cel.Variable("object", cel.DynType),
			cel.Variable("params", cel.DynType),
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	base, err = base.Extend(environment.StrictCostOpt)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	env := base.StoredExpressionsEnv()
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 64<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	for in.Scan() {
		var asked question
		if err := json.Unmarshal(in.Bytes(), &asked); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := encoder.Encode(evaluate(env, asked)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func evaluate(env *cel.Env, asked question) (made answer) {
	// The check of literals in cel-go 0.26 panics on an optional item of which nothing is known.
	defer func() {
		if caught := recover(); caught != nil {
			made = answer{Stage: "panic", Error: fmt.Sprint(caught)}
		}
	}()
	ast, issues := env.Compile(asked.Expression)
	if issues.Err() != nil {
		return answer{Stage: "compile", Error: issues.Err().Error()}
	}
	estimator := &library.CostEstimator{}
	program, err := env.Program(ast,
		cel.CostLimit(1_000_000),
		cel.CostTracking(estimator),
		cel.EvalOptions(cel.OptOptimize, cel.OptTrackCost),
		cel.InterruptCheckFrequency(100))
	if err != nil { // a constant part was evaluated, and failed
		return answer{Stage: "evaluate", Error: err.Error()}
	}
	variables := map[string]any{}
	for name, raw := range asked.Variables {
		variables[name] = decode(raw)
	}
	value, details, err := program.Eval(variables)
	made = answer{Stage: "evaluate"}
	if details != nil && details.ActualCost() != nil {
		made.Cost = *details.ActualCost()
	}
	if err != nil {
		made.Error = err.Error()
		return made
	}
	made.Stage = "value"
	made.Value = tagged(value)
	return made
}

// decode reads JSON as Kubernetes does: whole numbers are int64.
func decode(raw json.RawMessage) any {
	var value any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nil
	}
	return numbers(value)
}

func numbers(value any) any {
	switch one := value.(type) {
	case json.Number:
		if whole, err := one.Int64(); err == nil {
			return whole
		}
		float, _ := one.Float64()
		return float
	case map[string]any:
		for key, inner := range one {
			one[key] = numbers(inner)
		}
	case []any:
		for at, inner := range one {
			one[at] = numbers(inner)
		}
	}
	return value
}

// tagged writes a value with its type, so that 1 and 1.0 and 1u differ.
func tagged(value ref.Val) any {
	switch one := value.(type) {
	case types.Null:
		return []any{"null"}
	case types.Bool:
		return []any{"bool", bool(one)}
	case types.Int:
		return []any{"int", strconv.FormatInt(int64(one), 10)}
	case types.Uint:
		return []any{"uint", strconv.FormatUint(uint64(one), 10)}
	case types.Double:
		if math.IsNaN(float64(one)) {
			return []any{"double", "NaN"}
		}
		return []any{"double", strconv.FormatUint(math.Float64bits(float64(one)), 16)}
	case types.String:
		return []any{"string", string(one)}
	case types.Bytes:
		return []any{"bytes", []byte(one)}
	case types.Timestamp:
		return []any{"timestamp", one.Time.Format(time.RFC3339Nano)}
	case types.Duration:
		return []any{"duration", strconv.FormatInt(one.Duration.Nanoseconds(), 10)}
	case *types.Type:
		return []any{"type", one.TypeName()}
	case *types.Optional:
		if !one.HasValue() {
			return []any{"optional"}
		}
		return []any{"optional", tagged(one.GetValue())}
	case *mutation.JSONPatchVal:
		made := map[string]any{"op": one.Op, "path": one.Path}
		if one.From != "" {
			made["from"] = one.From
		}
		if one.Val != nil {
			made["value"] = tagged(one.Val)
		}
		return []any{"JSONPatch", made}
	case traits.Lister:
		made := []any{}
		for items := one.Iterator(); items.HasNext() == types.True; {
			made = append(made, tagged(items.Next()))
		}
		return []any{"list", made}
	case traits.Mapper:
		made := [][2]any{}
		for keys := one.Iterator(); keys.HasNext() == types.True; {
			key := keys.Next()
			made = append(made, [2]any{tagged(key), tagged(one.Get(key))})
		}
		sort.Slice(made, func(i, j int) bool {
			return fmt.Sprint(made[i][0]) < fmt.Sprint(made[j][0])
		})
		return []any{"map", made}
	}
	name := value.Type().TypeName()
	if strings.HasPrefix(name, "net.") {
		return []any{name, fmt.Sprint(value.Value())}
	}
	return []any{name}
}
