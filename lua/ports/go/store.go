// Package featurestore reads and writes features by the Lua scripts of a feature store on Redis.
//
// A Store knows the schema of one kind of entity: it asks Redis when it is opened, and again when Redis answers that the
// schema is another one now. Values come typed by the schema, and one that is missing is never 0.
package featurestore

import (
	"crypto/sha1"
	"embed"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gomodule/redigo/redis"
)

//go:embed scripts/delete_entity.lua scripts/describe_entity.lua scripts/get_features.lua
//go:embed scripts/get_features_batch.lua scripts/increment_features.lua scripts/record_events.lua
//go:embed scripts/upsert_features.lua
var sources embed.FS

var (
	deleteEntity      = load("delete_entity")
	describeEntity    = load("describe_entity")
	getFeatures       = load("get_features")
	getFeaturesBatch  = load("get_features_batch")
	incrementFeatures = load("increment_features")
	recordEvents      = load("record_events")
	upsertFeatures    = load("upsert_features")
)

type script struct{ source, sha string }

func load(name string) script {
	source, err := sources.ReadFile("scripts/" + name + ".lua")
	if err != nil {
		panic(err) // the two lists above differ
	}
	return scriptOf(source)
}

func scriptOf(source []byte) script {
	return script{string(source), fmt.Sprintf("%x", sha1.Sum(source))}
}

// Error is an error reply of a script or of Redis: a code such as UNDECLARED, and what was wrong.
type Error struct{ Code, Text string }

func (e *Error) Error() string { return e.Code + " " + e.Text }

// Config says which entities a Store has, and how it calls.
type Config struct {
	Entity   string // the kind of entity, the first word of its keys; "user" when empty
	ReadOnly bool   // read by EVALSHA_RO, on replicas or as a user who may only read: Redis 7 and Valkey
}

// Pool is where connections come from: a *redis.Pool.
type Pool interface{ Get() redis.Conn }

// Store has the features of one kind of entity. Goroutines may share it.
type Store struct {
	pool    Pool
	prefix  string // of all keys but the set of ids
	reading string // the command that calls what only reads
	schema  atomic.Pointer[Schema]
	// In ns: when a read last made sure of the layout, and when the schema was described.
	checked, described atomic.Int64
}

// Open returns a store that has read its schema.
func Open(pool Pool, config Config) (*Store, error) {
	store := &Store{pool: pool, prefix: "user:", reading: "EVALSHA"}
	if config.Entity != "" {
		store.prefix = config.Entity + ":"
	}
	if config.ReadOnly {
		store.reading = "EVALSHA_RO"
	}
	_, err := store.Describe()
	return store, err
}

// Schema returns the schema as it was last read.
func (s *Store) Schema() *Schema { return s.schema.Load() }

// Describe reads the schema again.
func (s *Store) Describe() (*Schema, error) {
	now := time.Now().UnixNano()
	reply, err := s.call(describeEntity, s.reading, []any{1, s.prefix + "schema"})
	if err != nil {
		return nil, err
	}
	schema, err := readSchema(reply[0])
	if err != nil {
		return nil, err
	}
	s.schema.Store(schema)
	s.checked.Store(now)
	s.described.Store(now)
	return schema, nil
}

// withSchema does what depends on the schema; where that has changed, once again by the schema as it is now.
func (s *Store) withSchema(do func(*Schema) error) error {
	err := do(s.Schema())
	if code := codeOf(err); code != "SCHEMA_CHANGED" && code != "UNDECLARED" {
		return err
	}
	schema, err := s.Describe()
	if err != nil {
		return err
	}
	return do(schema)
}

// words returns the words of a call behind the script's name: the keys for these entities, and the arguments.
func (s *Store) words(schema *Schema, ids []string, args ...any) []any {
	words := []any{2 + len(ids), schema.Members, s.prefix + "schema"}
	for _, id := range ids {
		words = append(words, s.prefix+id+":features")
	}
	return append(words, args...)
}

// call makes calls of a script in one write, and returns the replies before the first error. Where Redis does not have the
// script (after a restart, a failover, a SCRIPT FLUSH) it is loaded, and the calls from the first that missed it are made
// again, in their order: an older row must not end up over a newer one.
func (s *Store) call(called script, command string, calls ...[]any) ([]any, error) {
	conn := s.pool.Get()
	defer conn.Close()
	replies, err := send(conn, called.sha, command, calls)
	if codeOf(err) != "NOSCRIPT" {
		return replies, err
	}
	if _, err := conn.Do("SCRIPT", "LOAD", called.source); err != nil {
		return replies, asError(err)
	}
	rest, err := send(conn, called.sha, command, calls[len(replies):])
	return append(replies, rest...), err
}

// callInTurn makes calls that take Redis so long each, in order: those in one write that together take about mostUs, and the
// next ones when these are answered. Redis runs all that one read of a connection brings before it serves another.
func (s *Store) callInTurn(called script, command string, calls [][]any, us float64) (replies []any, err error) {
	together := rowsPerCall(us)
	for from := 0; from < len(calls) && err == nil; from += together {
		var some []any
		some, err = s.call(called, command, part(calls, from, together)...)
		replies = append(replies, some...)
	}
	return replies, err
}

func send(conn redis.Conn, sha, command string, calls [][]any) (replies []any, failure error) {
	for _, call := range calls {
		if err := conn.Send(command, append([]any{sha}, call...)...); err != nil {
			return nil, err
		}
	}
	if err := conn.Flush(); err != nil {
		return nil, err
	}
	for range calls {
		reply, err := conn.Receive()
		if failure == nil && err == nil {
			replies = append(replies, reply)
		} else if failure == nil {
			failure = asError(err)
		}
	}
	return replies, failure
}

func asError(err error) error {
	if reply, ok := err.(redis.Error); ok {
		code, text, _ := strings.Cut(string(reply), " ")
		return &Error{code, text}
	}
	return err
}

func codeOf(err error) string {
	if failure, ok := err.(*Error); ok {
		return failure.Code
	}
	return ""
}

// part returns up to `most` elements of a list, from a position on.
func part[T any](list []T, from, most int) []T {
	if len(list)-from < most {
		most = len(list) - from
	}
	return list[from : from+most]
}
