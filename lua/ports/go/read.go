package featurestore

import (
	"fmt"
	"time"
)

const idsPerCall = 100 // a script holds Redis while it runs

// Option is what a read asks for in place of the packed row as it is stored.
type Option func(*ask)

type ask struct {
	names    []string
	service  string
	words    []any
	metadata bool
}

// Names asks for these features: some of the row, or vectors that are not in it.
func Names(names ...string) Option { return func(a *ask) { a.names = append(a.names, names...) } }

// FromService asks for the features that the schema lists under that name.
func FromService(name string) Option { return func(a *ask) { a.service = name } }

// MaxAge leaves out values that are older.
func MaxAge(most time.Duration) Option {
	return func(a *ask) { a.words = append(a.words, fmt.Sprintf("?max_age=%d", most.Milliseconds())) }
}

// WithMetadata asks for times, and for where values come from: Row.Metadata.
func WithMetadata() Option {
	return func(a *ask) { a.words, a.metadata = append(a.words, "?metadata"), true }
}

// Get returns the row of one entity, nil for an unknown id. Without options it has the features of the packed row, which
// costs Redis least.
func (s *Store) Get(id string, options ...Option) (row *Row, err error) {
	err = s.withSchema(func(schema *Schema) error {
		asked, told, err := s.ask(schema, options)
		if err != nil {
			return err
		}
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
	err = s.withSchema(func(schema *Schema) error {
		asked, told, err := s.ask(schema, options)
		if err != nil {
			return err
		}
		var calls [][]any
		for from := 0; from < len(ids); from += idsPerCall {
			some := part(ids, from, idsPerCall)
			args := append([]any{len(asked.words)}, asked.words...)
			for _, id := range some {
				args = append(args, id)
			}
			calls = append(calls, s.words(schema, some, args...))
		}
		replies, err := s.call(getFeaturesBatch, s.reading, calls...)
		rows = make([]*Row, 0, len(ids))
		for _, reply := range replies {
			if encoded, ok := reply.([]byte); ok && err == nil { // by name: one msgpack array
				reply, err = decode(encoded)
			}
			list, _ := reply.([]any)
			for _, each := range list {
				row, wrong := told.row(each, asked.metadata)
				if wrong != nil {
					return wrong
				}
				rows = append(rows, row)
			}
		}
		if err == nil && len(rows) != len(ids) {
			err = fmt.Errorf("featurestore: %d rows came for %d ids", len(rows), len(ids))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// ask returns what a read sends, and what its rows are aligned with.
func (s *Store) ask(schema *Schema, options []Option) (asked ask, told *columns, err error) {
	for _, option := range options {
		option(&asked)
	}
	service, known := schema.Services[asked.service]
	switch {
	case asked.names != nil && asked.service != "":
		err = fmt.Errorf("featurestore: a read is of names or of a service, not of both")
	case asked.names != nil:
		if told, err = schema.columns("", asked.names); err == nil && told.pick(schema) {
			asked.words = append(s.sure(asked.words), schema.Layout)
			break
		}
		for _, name := range asked.names {
			asked.words = append(asked.words, name)
		}
	case known:
		asked.words = append(asked.words, "?service="+asked.service)
		told, err = schema.columns(service.Digest, service.Features)
	case asked.service != "":
		err = &Error{"UNDECLARED", "the schema lists no service " + asked.service}
	default:
		asked.words = append(s.sure(asked.words), schema.Layout)
		told, err = schema.columns(schema.Layout, schema.Row)
	}
	return asked, told, err
}

// sure returns the words before a layout. Rows that are stored by a layout are handed on without a look at the schema; once a
// second a read looks.
func (s *Store) sure(words []any) []any {
	last, now := s.checked.Load(), time.Now().UnixNano()
	if now-last > int64(time.Second) && words == nil && s.checked.CompareAndSwap(last, now) {
		return []any{"?current"}
	}
	return words
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
