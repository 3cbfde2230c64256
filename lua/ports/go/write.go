package featurestore

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"sort"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/gomodule/redigo/redis"
)

// Marks in a value's place: the feature is removed; what is stored stays. No value of any type is one of these bytes.
const forget, leave = "\xff", "\xfe"

// Write is what to write of one entity. A feature that is not in Values keeps what is stored; one that is nil is removed.
// Without a time the row counts as of now, and is written whatever is stored.
type Write struct {
	ID     string
	Values map[string]any // numbers, bool, string, []float32, pointers to these, or nil
	Time   time.Time
}

// Event is something that happened to an entity, for the sliding windows of the schema.
type Event struct {
	ID      string
	Values  map[string]float64 // the numbers that windows sum
	Time    time.Time          // now where it is zero
	EventID string             // an event that is sent again with the same id is not counted again; empty: none
}

// Outcome is what became of rows or events.
type Outcome struct {
	Written, Skipped int
	Rejected         []Rejected
	Verdicts         string // a letter for each row: C created, A applied, P partly stale, S stale, D duplicate, R rejected
}

// Rejected is a row that was not written: its position, a code such as BADTYPE, and the reason.
type Rejected struct {
	Row          int
	Code, Reason string
}

// Upsert writes rows. Each stands or falls by itself; what is stored and newer stays. A value whose Go type does not fit
// is an error, and nothing is sent. After another error the outcome has the verdicts of the rows before it.
func (s *Store) Upsert(rows ...Write) (Outcome, error) { return s.upsert(rows, "?verdicts") }

// Overwrite writes rows over newer values too, for backfills.
func (s *Store) Overwrite(rows ...Write) (Outcome, error) {
	return s.upsert(rows, "?verdicts", "?overwrite")
}

func (s *Store) upsert(rows []Write, options ...string) (outcome Outcome, err error) {
	union := map[string]any{}
	for _, row := range rows {
		for name := range row.Values {
			union[name] = nil
		}
	}
	var given *columns
	if err = s.withSchema(func(schema *Schema) (err error) {
		given, err = schema.columns(sorted(union))
		return err
	}); err != nil {
		return outcome, err
	}
	lines := make([][]any, len(rows))
	for i, row := range rows {
		lines[i] = []any{row.ID, timeText(row.Time)}
		for at, name := range given.names {
			text := leave
			if value, has := row.Values[name]; has {
				if text, err = textOf(given.types[at], value); err != nil {
					return outcome, &Error{"BADTYPE", fmt.Sprintf("row %d: %s %v", i, name, err)}
				}
			}
			lines[i] = append(lines[i], text)
		}
	}
	head := append(append(options, "@event_time"), given.names...)
	rowUs := upsertRowUs(given.names, s.Schema().Types)
	inCall := rowsPerCall(rowUs)
	replies, err := s.callInTurn(upsertFeatures, "EVALSHA", s.calls(head, lines, inCall), rowUs*float64(inCall))
	return settle(outcome, replies, err)
}

// Record counts events in the sliding windows. After an error the outcome has the verdicts of the events before it.
func (s *Store) Record(events ...Event) (outcome Outcome, err error) {
	union := map[string]float64{}
	for _, event := range events {
		for name := range event.Values {
			union[name] = 0
		}
	}
	fields := sorted(union)
	lines := make([][]any, len(events))
	for i, event := range events {
		lines[i] = []any{event.ID, timeText(event.Time), event.EventID}
		for _, field := range fields {
			text := leave
			if number, has := event.Values[field]; has {
				text = strconv.FormatFloat(number, 'g', -1, 64)
			}
			lines[i] = append(lines[i], text)
		}
	}
	head := append([]string{"@event_time", "@event_id"}, fields...)
	for _, call := range s.calls(head, lines, rowsPerCall(eventRowUs(s.Schema().Types))) {
		// One by one: where the script is lost between two calls, none that was counted is made again.
		replies, err := s.call(recordEvents, "EVALSHA", call)
		if outcome, err = settle(outcome, replies, err); err != nil {
			return outcome, err
		}
	}
	return outcome, nil
}

// Increment adds to features of type float or int, and returns their new values; nil, and nothing is written, when the
// entity was deleted at or after that time. A zero time is now.
func (s *Store) Increment(id string, amounts map[string]any, at time.Time) (row *Row, err error) {
	err = s.withSchema(func(schema *Schema) error {
		added, err := schema.columns(sorted(amounts))
		if err != nil {
			return err
		}
		args := []any{id, timeText(at)}
		for i, name := range added.names {
			text, err := textOf(added.types[i], amounts[name])
			if err != nil {
				return &Error{"BADTYPE", fmt.Sprintf("%s %v", name, err)}
			}
			args = append(args, name, text)
		}
		replies, err := s.call(incrementFeatures, "EVALSHA", s.words(schema, []string{id}, args...))
		if err == nil {
			row, err = added.row(replies[0], false)
		}
		return err
	})
	return row, err
}

// Delete removes an entity, and returns whether anything was removed: what is newer than the time stays. For as long as
// the schema's @tombstone says, rows up to that time do not bring it back. A zero time is now.
func (s *Store) Delete(id string, at time.Time) (bool, error) {
	replies, err := s.call(deleteEntity, "EVALSHA", s.words(s.Schema(), []string{id}, id, timeText(at)))
	return err == nil && replies[0] == int64(1), err
}

// calls returns calls of `inCall` lines each, which begin with an id; `head` are the words that say what they have.
func (s *Store) calls(head []string, lines [][]any, inCall int) (calls [][]any) {
	for from := 0; from < len(lines); from += inCall {
		args := []any{"", len(head)}
		for _, word := range head {
			args = append(args, word)
		}
		var ids []string
		for _, line := range part(lines, from, inCall) {
			ids = append(ids, line[0].(string))
			args = append(args, line...)
		}
		calls = append(calls, s.words(s.Schema(), ids, args...))
	}
	return calls
}

// settle adds the replies to calls to an outcome.
func settle(outcome Outcome, replies []any, failure error) (Outcome, error) {
	for _, reply := range replies {
		var written, skipped int
		var rejected []any
		var verdicts string
		parts, _ := reply.([]any)
		if _, err := redis.Scan(parts, &written, &skipped, &rejected, &verdicts); err != nil {
			return outcome, fmt.Errorf("featurestore: the reply to a write is %v: %w", reply, err)
		}
		for _, each := range rejected {
			row := Rejected{}
			parts, _ := each.([]any)
			if _, err := redis.Scan(parts, &row.Row, &row.Code, &row.Reason); err != nil {
				return outcome, fmt.Errorf("featurestore: a rejected row is told as %v: %w", each, err)
			}
			row.Row += len(outcome.Verdicts)
			outcome.Rejected = append(outcome.Rejected, row)
		}
		outcome.Written, outcome.Skipped = outcome.Written+written, outcome.Skipped+skipped
		outcome.Verdicts += verdicts
	}
	return outcome, failure
}

// textOf returns a value as the scripts take it. A number is no text, and text is no number.
func textOf(declared string, value any) (string, error) {
	kind, found := kindOf(declared), reflect.ValueOf(value)
	for found.Kind() == reflect.Pointer {
		found = found.Elem() // of a nil pointer: invalid, as of nil
	}
	numeric := kind != "bool" && kind != "string" && kind != "float32"
	switch {
	case !found.IsValid():
		return forget, nil
	case kind == "bool" && found.Kind() == reflect.Bool:
		return strconv.FormatBool(found.Bool()), nil
	case kind == "string" && found.Kind() == reflect.String:
		if text := found.String(); len(text) != 1 || utf8.ValidString(text) {
			return text, nil
		}
		return "\xff\xff", nil // no mark, and rejected as every text that is not UTF-8
	case numeric && found.CanInt():
		return strconv.FormatInt(found.Int(), 10), nil
	case numeric && found.CanUint():
		return strconv.FormatUint(found.Uint(), 10), nil
	case numeric && found.CanFloat() && kind == "int" && math.Abs(found.Float()) < 1<<53:
		return strconv.FormatFloat(found.Float(), 'f', -1, 64), nil // a fraction is rejected
	case numeric && found.CanFloat():
		return strconv.FormatFloat(found.Float(), 'g', -1, found.Type().Bits()), nil
	}
	if vector, ok := found.Interface().([]float32); ok && kind == "float32" {
		encoded := make([]byte, 4*len(vector))
		for i, number := range vector {
			binary.LittleEndian.PutUint32(encoded[4*i:], math.Float32bits(number))
		}
		return string(encoded), nil
	}
	return "", fmt.Errorf("is %s, not %#v", declared, value)
}

func timeText(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return strconv.FormatInt(at.UnixMilli(), 10)
}

func sorted[T any](named map[string]T) []string {
	names := make([]string, 0, len(named))
	for name := range named {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
