package featurestore

import (
	"fmt"
	"time"
)

// Option is what a read asks for in place of the packed row as it is stored.
type Option func(*ask)

type ask struct {
	names    []string
	service  string
	words    []any
	metadata bool
	aged     bool // whether times are looked at: for metadata, or for values that are too old
}

// Names asks for these features: some of the row, or vectors that are not in it.
func Names(names ...string) Option { return func(a *ask) { a.names = append(a.names, names...) } }

// FromService asks for the features that the schema lists under that name.
func FromService(name string) Option { return func(a *ask) { a.service = name } }

// MaxAge leaves out values that are older.
func MaxAge(most time.Duration) Option {
	return func(a *ask) {
		a.words, a.aged = append(a.words, fmt.Sprintf("?max_age=%d", most.Milliseconds())), true
	}
}

// WithMetadata asks for times, and for where values come from: Row.Metadata.
func WithMetadata() Option {
	return func(a *ask) { a.words, a.metadata, a.aged = append(a.words, "?metadata"), true, true }
}

// Get returns the row of one entity, nil for an unknown id. Without options it has the features of the packed row, which
// costs Redis least.
func (s *Store) Get(id string, options ...Option) (row *Row, err error) {
	err = s.read(options, func(schema *Schema, asked ask, told *columns) error {
		args := append([]any{id}, asked.words...)
		replies, err := s.call(getFeatures, s.reading, s.words(schema, []string{id}, args...))
		if err == nil {
			row, err = told.row(replies[0], asked.metadata)
		}
		return err
	})
	return row, err
}

// GetMany returns a row for each id, in their order; nil for an unknown one.
func (s *Store) GetMany(ids []string, options ...Option) (rows []*Row, err error) {
	err = s.read(options, func(schema *Schema, asked ask, told *columns) error {
		found, err := s.batch(schema, asked, told, ids)
		if err != nil {
			return err
		}
		rows = make([]*Row, len(ids))
		for i, each := range found {
			if rows[i], err = told.row(each, asked.metadata); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// batch returns what is found for each id. Calls hand on the rows that are stored by the layout. The others, after a change
// of the schema all of them, are made: those beyond what one call may make come as 0, and are asked for again, a few a call.
func (s *Store) batch(schema *Schema, asked ask, told *columns, ids []string) ([]any, error) {
	if told.digest != "" && told.madeUs*mostRows > mostUs {
		asked.words = append([]any{fmt.Sprintf("?most=%d", mostMade)}, asked.words...)
	}
	rowUs := told.rowUs
	if asked.aged {
		rowUs += told.agesUs
	}
	found, err := s.rows(schema, asked.words, ids, rowUs)
	left := unmade(found)
	for err == nil && len(left) > 0 {
		again := make([]string, len(left))
		for i, place := range left {
			again[i] = ids[place]
		}
		var made []any
		if made, err = s.rows(schema, asked.words, again, told.madeUs); err != nil {
			break
		}
		for i, place := range left {
			found[place] = made[i]
		}
		still := unmade(found)
		if len(still) == len(left) {
			err = fmt.Errorf("featurestore: get_features_batch made none of %d rows", len(left))
		}
		left = still
	}
	return found, err
}

// unmade returns the places of the rows to be asked for again.
func unmade(found []any) (places []int) {
	for place, row := range found {
		if row == int64(0) {
			places = append(places, place)
		}
	}
	return places
}

// rows makes the calls for these ids, whose rows take so long each, and returns what they answer for each id.
func (s *Store) rows(schema *Schema, words []any, ids []string, rowUs float64) ([]any, error) {
	var calls [][]any
	inCall := rowsPerCall(rowUs)
	for from := 0; from < len(ids); from += inCall {
		some := part(ids, from, inCall)
		args := append([]any{len(words)}, words...)
		for _, id := range some {
			args = append(args, id)
		}
		calls = append(calls, s.words(schema, some, args...))
	}
	replies, err := s.callInTurn(getFeaturesBatch, s.reading, calls, rowUs*float64(inCall))
	rows := make([]any, 0, len(ids))
	for _, reply := range replies {
		if encoded, ok := reply.([]byte); ok && err == nil { // by name: one msgpack array
			reply, err = decode(encoded)
		}
		list, _ := reply.([]any)
		rows = append(rows, list...)
	}
	if err == nil && len(rows) != len(ids) {
		err = fmt.Errorf("featurestore: %d rows came for %d ids", len(rows), len(ids))
	}
	return rows, err
}

// read does a read by the schema, with the words that it sends and what its rows are aligned with.
func (s *Store) read(options []Option, do func(*Schema, ask, *columns) error) error {
	var asked ask
	for _, option := range options {
		option(&asked)
	}
	if asked.names != nil && asked.service != "" {
		return fmt.Errorf("featurestore: a read is of names or of a service, not of both")
	}
	if err := s.seeServices(asked.service); err != nil {
		return err
	}
	return s.withSchema(func(schema *Schema) error {
		full, told, err := s.ask(schema, asked)
		if err != nil {
			return err
		}
		return do(schema, full, told)
	})
}

// seeServices describes the schema again where that is a second ago: no script tells that a service lists other features.
func (s *Store) seeServices(service string) (err error) {
	last, now := s.described.Load(), time.Now().UnixNano()
	if service != "" && now-last > int64(time.Second) && s.described.CompareAndSwap(last, now) {
		_, err = s.Describe()
	}
	return err
}

// ask returns what a read sends, and what its rows are aligned with.
func (s *Store) ask(schema *Schema, asked ask) (ask, *columns, error) {
	names, told := asked.names, schema.row
	if asked.service != "" {
		service, known := schema.Services[asked.service]
		if !known {
			return asked, nil, &Error{"UNDECLARED", "the schema lists no service " + asked.service + " that one call can read"}
		}
		names = service.Features
	}
	if asked.names != nil || asked.service != "" {
		var err error
		if told, err = schema.columns(names); err != nil {
			return asked, nil, err
		}
		told.pick(schema, asked.aged)
	}
	if told.digest != "" {
		asked.words = append(s.sure(asked.words), told.digest)
		return asked, told, nil
	}
	asked.words = append([]any{}, asked.words...)
	for _, name := range names {
		asked.words = append(asked.words, name)
	}
	return asked, told, nil
}

// sure returns the words before a layout. Rows that are stored by a layout are handed on without a look at the schema; once a
// second a read looks.
func (s *Store) sure(words []any) []any {
	last, now := s.checked.Load(), time.Now().UnixNano()
	if now-last > int64(time.Second) && len(words) == 0 && s.checked.CompareAndSwap(last, now) {
		return []any{"?current"}
	}
	return append([]any{}, words...)
}

// row makes a row of a reply: a string; what a batch by name has decoded; with metadata, that and four parts more.
func (c *columns) row(reply any, metadata bool) (*Row, error) {
	if reply == nil {
		return nil, nil
	}
	row := &Row{columns: c}
	if metadata {
		parts, _ := reply.([]any)
		if row.Metadata = readMetadata(parts, c); row.Metadata == nil {
			return nil, fmt.Errorf("featurestore: the metadata of %d features came as %v", c.width, reply)
		}
		reply = parts[0]
	}
	if encoded, ok := reply.([]byte); ok {
		size := len(c.digest)
		if len(encoded) < size || string(encoded[:size]) != c.digest {
			return nil, &Error{"SCHEMA_CHANGED", "the reply is not aligned with the features as last described"}
		}
		var err error
		if reply, err = decode(encoded[size:]); err != nil {
			return nil, err
		}
	}
	all, _ := reply.([]any)
	if len(all) != c.width {
		return nil, fmt.Errorf("featurestore: a row of %d features came as %v", c.width, reply)
	}
	row.values = picked(c, all)
	return row, c.cast(row.values)
}

func readMetadata(parts []any, c *columns) *Metadata {
	if len(parts) != 5 {
		return nil
	}
	statuses, _ := parts[3].([]byte)
	times, _ := parts[4].([]any)
	if len(statuses) != c.width || len(times) != c.width {
		return nil
	}
	told := &Metadata{EventTime: timeOf(parts[1]), Statuses: string(picked(c, statuses))}
	if age, known := parts[2].(int64); known {
		duration := time.Duration(age) * time.Millisecond
		told.Age = &duration
	}
	for _, each := range picked(c, times) {
		told.EventTimes = append(told.EventTimes, timeOf(each))
	}
	return told
}

func timeOf(ms any) time.Time {
	if known, ok := ms.(int64); ok {
		return time.UnixMilli(known).UTC()
	}
	return time.Time{}
}
