package featurestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
)

// ErrMissing says that there is no value: the id is unknown, or the feature is not stored, too old, or not of its type.
var ErrMissing = errors.New("featurestore: there is no value")

// Row is what was read of one entity. A nil Row is that of an unknown id.
type Row struct {
	Metadata *Metadata // nil where it was not asked for
	columns  *columns
	values   []any
}

// Metadata tells of times and of where values come from. A time that is not known is zero (IsZero).
type Metadata struct {
	EventTime  time.Time      // the newest
	Age        *time.Duration // of that, by Redis's clock; nil where it is not known
	Statuses   string         // a letter for each feature: P present, M missing, D default, S stale
	EventTimes []time.Time    // of each feature
}

// Names returns the features that were read; none of a nil Row.
func (r *Row) Names() []string {
	if r == nil {
		return nil
	}
	return r.columns.names
}

// Values returns a value for each of Names: float64, int64, bool, string, []float32, or nil.
func (r *Row) Values() []any {
	if r == nil {
		return nil
	}
	return r.values
}

// Float returns the value of a float or a sum(…); ErrMissing where there is none, as the four below.
func (r *Row) Float(name string) (float64, error) { return valueOf[float64](r, name) }

// Int returns the value of an int or a count(…), exact to 64 bits.
func (r *Row) Int(name string) (int64, error) { return valueOf[int64](r, name) }

// Bool returns the value of a bool.
func (r *Row) Bool(name string) (bool, error) { return valueOf[bool](r, name) }

// Text returns the value of a string.
func (r *Row) Text(name string) (string, error) { return valueOf[string](r, name) }

// Vector returns the value of a float32[N].
func (r *Row) Vector(name string) ([]float32, error) { return valueOf[[]float32](r, name) }

func valueOf[T any](r *Row, name string) (found T, err error) {
	if r == nil {
		return found, ErrMissing
	}
	value, kind, err := r.at(name)
	switch {
	case err != nil:
		return found, err
	case kind != reflect.TypeOf(found):
		return found, fmt.Errorf("featurestore: the value of %s is a %v, not a %T", name, kind, found)
	case value == nil:
		return found, ErrMissing
	}
	return value.(T), nil
}

// at returns a feature's value and the type of its values.
func (r *Row) at(name string) (any, reflect.Type, error) {
	for i, each := range r.columns.names {
		if each == name {
			return r.values[i], goTypes[kindOf(r.columns.types[i])], nil
		}
	}
	return nil, nil, fmt.Errorf("featurestore: %s is not among the features that were read", name)
}

// Scan puts the row into a struct: into each field with a tag such as `feature:"age"`. These fields are pointers (*float64,
// *int64, *bool, *string), or []float32: nil where there is no value.
func (r *Row) Scan(destination any) error {
	if r == nil {
		return ErrMissing
	}
	into := reflect.ValueOf(destination)
	if into.Kind() != reflect.Pointer || into.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("featurestore: a row goes into a pointer to a struct, not into %T", destination)
	}
	into = into.Elem()
	for i := 0; i < into.NumField(); i++ {
		name, tagged := into.Type().Field(i).Tag.Lookup("feature")
		if !tagged {
			continue
		}
		value, kind, err := r.at(name)
		if err != nil {
			return err
		}
		wanted, found := kind, reflect.ValueOf(value)
		if kind.Kind() != reflect.Slice {
			wanted = reflect.PointerTo(kind)
		}
		field := into.Field(i)
		switch {
		case field.Type() != wanted || !field.CanSet():
			return fmt.Errorf("featurestore: %s goes into an exported %v, not into %v", name, wanted, field.Type())
		case value == nil:
			found = reflect.Zero(wanted)
		case wanted != kind:
			found = reflect.New(kind)
			found.Elem().Set(reflect.ValueOf(value))
		}
		field.Set(found)
	}
	return nil
}

var goTypes = map[string]reflect.Type{
	"float": reflect.TypeOf(0.0), "sum": reflect.TypeOf(0.0), "int": reflect.TypeOf(int64(0)),
	"count": reflect.TypeOf(int64(0)), "bool": reflect.TypeOf(false), "string": reflect.TypeOf(""),
	"float32": reflect.TypeOf([]float32{}),
}

// kindOf returns a type without its size or span: "float32" of "float32[3]", "sum" of "sum(amount, 1h)".
func kindOf(declared string) string {
	kind, _, _ := strings.Cut(declared, "[")
	kind, _, _ = strings.Cut(kind, "(")
	return kind
}

// cast turns what msgpack has into values of the features' types: a whole float is an int there, a vector bytes.
func (c *columns) cast(values []any) error {
	for i, value := range values {
		kind := goTypes[kindOf(c.types[i])]
		if whole, ok := value.(int64); ok && kind == goTypes["float"] {
			values[i] = float64(whole)
		} else if encoded, ok := value.([]byte); ok {
			vector := make([]float32, len(encoded)/4)
			for at := range vector {
				vector[at] = math.Float32frombits(binary.LittleEndian.Uint32(encoded[4*at:]))
			}
			values[i] = vector
		}
		if value != nil && reflect.TypeOf(values[i]) != kind {
			return fmt.Errorf("featurestore: %s is declared as %s, and came as %v", c.names[i], c.types[i], value)
		}
	}
	return nil
}
