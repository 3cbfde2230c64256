package featurestore_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"featurestore"

	"github.com/gomodule/redigo/redis"
)

var (
	earlier = time.UnixMilli(1700000000000).UTC()
	later   = earlier.Add(time.Hour)
)

var types = []string{
	"age", "float", "n", "int", "active", "bool", "country", "string", "embedding", "float32[3]", "clicks", "count(1h)",
	"spent", "sum(amount, 1h)", "@service:ranking", `["country","age"]`,
}

func newPool() *redis.Pool {
	return &redis.Pool{MaxIdle: 4, Dial: func() (redis.Conn, error) { return redis.DialURL(os.Getenv("REDIS_URL")) }}
}

// do sends a command, to an administrator's end.
func do(t *testing.T, pool featurestore.Pool, command string, args ...any) any {
	t.Helper()
	conn := pool.Get()
	defer conn.Close()
	reply, err := conn.Do(command, args...)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return reply
}

func apply(t *testing.T, pool featurestore.Pool, words ...string) {
	t.Helper()
	source, err := os.ReadFile("scripts/apply_schema.lua")
	if err != nil {
		t.Fatal(err)
	}
	do(t, pool, "EVAL", redis.Args{source, 1, "user:schema"}.AddFlat(words)...)
}

// open returns a store on an empty server with a schema, and its pool.
func open(t *testing.T) (*featurestore.Store, *redis.Pool) {
	t.Helper()
	pool := newPool()
	t.Cleanup(func() { pool.Close() })
	do(t, pool, "FLUSHALL")
	do(t, pool, "SCRIPT", "FLUSH")
	apply(t, pool, types...)
	store, err := featurestore.Open(pool, featurestore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return store, pool
}

func upsert(t *testing.T, store *featurestore.Store, rows ...featurestore.Write) featurestore.Outcome {
	t.Helper()
	outcome, err := store.Upsert(rows...)
	if err != nil {
		t.Fatal(err)
	}
	return outcome
}

func get(t *testing.T, store *featurestore.Store, id string, options ...featurestore.Option) *featurestore.Row {
	t.Helper()
	row, err := store.Get(id, options...)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func same(t *testing.T, got, wanted any) {
	t.Helper()
	if !reflect.DeepEqual(got, wanted) {
		t.Fatalf("got  %#v\nwant %#v", got, wanted)
	}
}

func fails(t *testing.T, err error, code, text string) {
	t.Helper()
	var failure *featurestore.Error
	if !errors.As(err, &failure) || failure.Code != code || !strings.Contains(err.Error(), text) {
		t.Fatalf("got the error %v, want %s and %q", err, code, text)
	}
}

var ann = map[string]any{"age": 31.0, "n": math.MaxInt64, "active": true, "country": "DE", "embedding": []float32{1, 2.5, -3}}

func TestWhatIsWrittenIsReadWithItsTypes(t *testing.T) {
	store, _ := open(t)
	upsert(t, store, featurestore.Write{ID: "ann", Values: ann, Time: earlier})
	row := get(t, store, "ann")
	same(t, row.Names(), []string{"age", "n", "active", "country", "clicks", "spent"})
	same(t, row.Values(), []any{31.0, int64(math.MaxInt64), true, "DE", int64(0), 0.0})
	age, err := row.Float("age")
	same(t, []any{age, err}, []any{31.0, nil})
	n, err := row.Int("n")
	same(t, []any{n, err}, []any{int64(math.MaxInt64), nil})
	active, err := row.Bool("active")
	same(t, []any{active, err}, []any{true, nil})
	country, err := row.Text("country")
	same(t, []any{country, err}, []any{"DE", nil})
	embedding, err := get(t, store, "ann", featurestore.Names("embedding")).Vector("embedding")
	same(t, []any{embedding, err}, []any{[]float32{1, 2.5, -3}, nil})
}

func TestFloatsAndIntsComeBackAsTheyWere(t *testing.T) {
	store, _ := open(t)
	for _, number := range []float64{0, 0.1, 1 << 31, 1 << 32, 1 << 53, -1e15, 1e300, 5e-324, float64(float32(0.1))} {
		upsert(t, store, featurestore.Write{ID: "ann", Values: map[string]any{"age": number}})
		same(t, get(t, store, "ann").Values()[0], number)
	}
	for _, number := range []int64{0, -1, -33, 200, -200, 40000, 1<<32 - 1, 1<<53 + 1, -1<<53 - 1, math.MaxInt64, math.MinInt64} {
		upsert(t, store, featurestore.Write{ID: "ann", Values: map[string]any{"n": number}})
		same(t, get(t, store, "ann").Values()[1], number)
	}
	upsert(t, store, featurestore.Write{ID: "ann", Values: map[string]any{"age": float32(0.1), "n": uint8(7)}})
	same(t, get(t, store, "ann").Values()[:2], []any{0.1, int64(7)})
}

// openPlain returns a store whose schema has so many ints, f0 and so on, a vector and a service, but no windows.
func openPlain(t *testing.T, width int) (*featurestore.Store, *redis.Pool) {
	t.Helper()
	_, pool := open(t)
	do(t, pool, "FLUSHALL")
	words := []string{"embedding", "float32[3]", "@service:pair", `["f1","f0"]`, "@service:mixed", `["f1","embedding"]`}
	for i := 0; i < width; i++ {
		words = append(words, fmt.Sprint("f", i), "int")
	}
	apply(t, pool, words...)
	store, err := featurestore.Open(pool, featurestore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return store, pool
}

// counting is a pool that counts what its connections send, but for single commands.
type counting struct {
	featurestore.Pool
	calls, writes int
}

type counted struct {
	redis.Conn
	by *counting
}

func (c *counting) Get() redis.Conn { return counted{c.Pool.Get(), c} }

func (c counted) Send(command string, args ...any) error {
	c.by.calls++
	return c.Conn.Send(command, args...)
}

func (c counted) Flush() error {
	c.by.writes++
	return c.Conn.Flush()
}

func TestNamesAndServicesOfTheRowsFeaturesArePickedOfTheRow(t *testing.T) {
	store, pool := openPlain(t, 4)
	values := map[string]any{"f0": 10, "f1": 11, "embedding": []float32{1, 2.5, -3}}
	upsert(t, store, featurestore.Write{ID: "ann", Values: values, Time: earlier})
	do(t, pool, "HSET", "user:ann:features", "f0", "99", "f1", "98") // where the row does not say so
	for _, pair := range []featurestore.Option{featurestore.Names("f1", "f0"), featurestore.FromService("pair")} {
		row := get(t, store, "ann", pair)
		same(t, []any{row.Names(), row.Values()}, []any{[]string{"f1", "f0"}, []any{int64(11), int64(10)}})
		told := get(t, store, "ann", pair, featurestore.WithMetadata())
		same(t, []any{told.Values(), told.Metadata.Statuses, len(told.Metadata.EventTimes)}, []any{row.Values(), "PP", 2})
		rows, err := store.GetMany([]string{"ann", "nobody"}, pair)
		same(t, []any{rows[0].Values(), rows[1] == nil, err}, []any{row.Values(), true, nil})
	}
	for _, mixed := range []featurestore.Option{featurestore.Names("f1", "embedding"), featurestore.FromService("mixed")} {
		same(t, get(t, store, "ann", mixed).Values(), []any{int64(98), []float32{1, 2.5, -3}})
	}
}

func TestFewOfVeryManyFeaturesAreReadByName(t *testing.T) {
	store, pool := openPlain(t, 500)
	upsert(t, store, featurestore.Write{ID: "ann", Values: map[string]any{"f0": 10, "f1": 11}})
	do(t, pool, "HSET", "user:ann:features", "f0", "99")
	var names []string
	for i := 0; i < 20; i++ {
		names = append(names, fmt.Sprint("f", i))
	}
	same(t, get(t, store, "ann", featurestore.Names("f0")).Values(), []any{int64(99)})
	same(t, get(t, store, "ann", featurestore.Names(names...)).Values()[:2], []any{int64(10), int64(11)})
}

func TestABatchAfterAChangeOfTheSchemaIsWholeInShortCalls(t *testing.T) {
	_, pool := openPlain(t, 500)
	counts := &counting{Pool: pool}
	store, err := featurestore.Open(counts, featurestore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	var rows []featurestore.Write
	for i := 0; i < 100; i++ {
		ids = append(ids, fmt.Sprint("u", i))
		rows = append(rows, featurestore.Write{ID: ids[i], Values: map[string]any{"f0": i}})
	}
	sent := func(something func()) []int { // calls, and writes of calls, once all scripts are loaded
		something()
		counts.calls, counts.writes = 0, 0
		something()
		return []int{counts.calls, counts.writes}
	}
	read := func(options ...featurestore.Option) {
		t.Helper()
		found, err := store.GetMany(append(ids, "nobody"), options...)
		if err != nil || len(found) != 101 || found[100] != nil {
			t.Fatal(len(found), err)
		}
		for i, row := range found[:100] {
			if n, err := row.Int("f0"); n != int64(i) || err != nil {
				t.Fatal(i, n, err)
			}
		}
	}
	// A row takes 360 µs to merge, 7 to hand on, and 400 to make.
	same(t, sent(func() { upsert(t, store, rows...) }), []int{50, 50})
	same(t, sent(func() { read() }), []int{2, 2})
	apply(t, pool, "late", "int")
	if _, err := store.Describe(); err != nil {
		t.Fatal(err)
	}
	for _, options := range [][]featurestore.Option{nil, {featurestore.MaxAge(time.Hour)}} {
		made := sent(func() { read(options...) })
		if made[0] < 50 || made[0] != made[1] {
			t.Fatal(made)
		}
	}
	read(featurestore.WithMetadata())
	same(t, sent(func() { read(featurestore.FromService("pair")) }), []int{2, 1}) // by name
}

func TestWhatIsMissingIsNeverZero(t *testing.T) {
	store, _ := open(t)
	upsert(t, store, featurestore.Write{ID: "ann", Values: map[string]any{"country": ""}})
	row := get(t, store, "ann")
	same(t, row.Values()[:4], []any{nil, nil, nil, ""})
	_, err := row.Float("age")
	same(t, err, featurestore.ErrMissing)
	country, err := row.Text("country")
	same(t, []any{country, err}, []any{"", nil})
	nobody := get(t, store, "nobody")
	same(t, nobody == nil, true)
	_, err = nobody.Int("n")
	same(t, err, featurestore.ErrMissing)
	same(t, nobody.Scan(&struct{}{}), featurestore.ErrMissing)
	same(t, []int{len(nobody.Names()), len(nobody.Values())}, []int{0, 0})
}

func TestAValueIsAskedForByItsOwnTypeAndName(t *testing.T) {
	store, _ := open(t)
	upsert(t, store, featurestore.Write{ID: "ann", Values: ann})
	row := get(t, store, "ann")
	_, err := row.Float("n")
	same(t, fmt.Sprint(err), "featurestore: the value of n is a int64, not a float64")
	_, err = row.Float("embedding")
	same(t, fmt.Sprint(err), "featurestore: embedding is not among the features that were read")
}

func TestARowGoesIntoAStruct(t *testing.T) {
	store, _ := open(t)
	type user struct {
		Age       *float64  `feature:"age"`
		N         *int64    `feature:"n"`
		Active    *bool     `feature:"active"`
		Country   *string   `feature:"country"`
		Embedding []float32 `feature:"embedding"`
		Note      string
	}
	upsert(t, store, featurestore.Write{ID: "ann", Values: ann}, featurestore.Write{ID: "bob", Values: map[string]any{"n": 5}})
	names := featurestore.Names("age", "n", "active", "country", "embedding")
	found := user{Note: "stays"}
	same(t, get(t, store, "ann", names).Scan(&found), nil)
	same(t, []any{*found.Age, *found.N, *found.Active, *found.Country, found.Embedding, found.Note},
		[]any{31.0, int64(math.MaxInt64), true, "DE", []float32{1, 2.5, -3}, "stays"})
	same(t, get(t, store, "bob", names).Scan(&found), nil)
	five := int64(5)
	same(t, found, user{N: &five, Note: "stays"})
}

func TestAStructThatWouldLoseSomethingIsRefused(t *testing.T) {
	store, _ := open(t)
	upsert(t, store, featurestore.Write{ID: "ann", Values: ann})
	row := get(t, store, "ann")
	for wanted, into := range map[string]any{
		"age goes into an exported *float64, not into float64": &struct {
			Age float64 `feature:"age"`
		}{},
		"n goes into an exported *int64, not into *float64": &struct {
			N *float64 `feature:"n"`
		}{},
		"n goes into an exported *int64, not into *int64": &struct {
			n *int64 `feature:"n"`
		}{},
		"nothing is not among the features that were read": &struct {
			N *int64 `feature:"nothing"`
		}{},
		"a row goes into a pointer to a struct, not into int": 5,
	} {
		same(t, fmt.Sprint(row.Scan(into)), "featurestore: "+wanted)
	}
}

func TestManyRowsComeInTheOrderOfTheIds(t *testing.T) {
	store, pool := open(t)
	var ids []string
	var rows []featurestore.Write
	for i := 0; i < 250; i++ {
		ids = append(ids, fmt.Sprint("u", i))
		if i%3 > 0 {
			rows = append(rows, featurestore.Write{ID: ids[i], Values: map[string]any{"n": i}})
		}
	}
	same(t, upsert(t, store, rows...).Verdicts, strings.Repeat("C", len(rows)))
	for _, options := range [][]featurestore.Option{nil, {featurestore.Names("n")}, {featurestore.WithMetadata()}} {
		do(t, pool, "SCRIPT", "FLUSH")
		found, err := store.GetMany(append(ids, "u1"), options...)
		if err != nil || len(found) != 251 {
			t.Fatal(len(found), err)
		}
		for i, row := range found[:250] {
			n, err := row.Int("n")
			if i%3 > 0 && (n != int64(i) || err != nil) || i%3 == 0 && (row != nil || err != featurestore.ErrMissing) {
				t.Fatal(i, row, n, err)
			}
		}
		same(t, found[250].Values(), found[1].Values())
	}
	none, err := store.GetMany(nil)
	same(t, []any{len(none), err}, []any{0, nil})
}

func TestAServiceIsReadByItsName(t *testing.T) {
	store, pool := open(t)
	upsert(t, store, featurestore.Write{ID: "ann", Values: ann})
	ranking := featurestore.FromService("ranking")
	same(t, get(t, store, "ann", ranking).Values(), []any{"DE", 31.0})
	apply(t, pool, "@service:ranking", `["n","age"]`)
	deadline := time.Now().Add(10 * time.Second)
	for !reflect.DeepEqual(get(t, store, "ann", ranking).Names(), []string{"n", "age"}) { // described once a second
		if time.Now().After(deadline) {
			t.Fatal("the change was not seen")
		}
	}
	same(t, get(t, store, "ann", ranking).Values(), []any{int64(math.MaxInt64), 31.0})
	apply(t, pool, "@service:later", `["age"]`)
	same(t, get(t, store, "ann", featurestore.FromService("later")).Values(), []any{31.0}) // described at once
	rows, err := store.GetMany([]string{"nobody", "ann"}, ranking)
	same(t, []any{rows[0] == nil, rows[1].Names(), err}, []any{true, []string{"n", "age"}, nil})
	_, err = store.Get("ann", featurestore.FromService("none"))
	fails(t, err, "UNDECLARED", "none")
	_, err = store.Get("ann", ranking, featurestore.Names("n"))
	same(t, fmt.Sprint(err), "featurestore: a read is of names or of a service, not of both")
}

func TestMetadataTellsOfTimesAndStatuses(t *testing.T) {
	store, _ := open(t)
	upsert(t, store, featurestore.Write{ID: "ann", Values: map[string]any{"age": 1, "country": "DE"}, Time: earlier},
		featurestore.Write{ID: "ann", Values: map[string]any{"country": "FR"}, Time: later})
	row := get(t, store, "ann", featurestore.Names("age", "country", "n"), featurestore.WithMetadata())
	age := *row.Metadata.Age
	if since := time.Since(later); age > since+time.Minute || age < since-time.Minute {
		t.Fatal(age)
	}
	same(t, *row.Metadata, featurestore.Metadata{
		EventTime: later, Age: &age, Statuses: "PPM", EventTimes: []time.Time{earlier, later, {}},
	})
	row = get(t, store, "ann", featurestore.WithMetadata(), featurestore.MaxAge(time.Second))
	same(t, []any{row.Metadata.Statuses[:4], row.Values()[0]}, []any{"SMMS", nil})
}

func TestASchemaThatGrewIsSeen(t *testing.T) {
	store, pool := open(t)
	upsert(t, store, featurestore.Write{ID: "ann", Values: ann, Time: earlier})
	apply(t, pool, "late", "int", "@default:late", "9")
	same(t, upsert(t, store, featurestore.Write{ID: "bob", Values: map[string]any{"late": 5}}).Written, 1)
	same(t, get(t, store, "bob").Values()[6], int64(5))

	apply(t, pool, "later", "int")
	upsert(t, store, featurestore.Write{ID: "ann", Values: map[string]any{"n": 1}}) // stored by the new layout now
	same(t, len(get(t, store, "ann").Values()), 8)
	_, err := store.Get("ann", featurestore.Names("never"))
	fails(t, err, "UNDECLARED", "never is not declared in the schema")
	_, err = store.Upsert(featurestore.Write{ID: "ann", Values: map[string]any{"never": 5}})
	fails(t, err, "UNDECLARED", "never")
}

func TestOnceASecondAReadMakesSureOfTheSchema(t *testing.T) {
	store, pool := open(t)
	upsert(t, store, featurestore.Write{ID: "ann", Values: ann})
	apply(t, pool, "late", "int")
	// Ann's row is stored by the layout that the store knows: it alone would hide the change.
	deadline := time.Now().Add(10 * time.Second)
	for len(get(t, store, "ann").Values()) != 7 {
		if time.Now().After(deadline) {
			t.Fatal("the change was not seen")
		}
	}
}

func TestRowsStandOrFallByThemselves(t *testing.T) {
	store, pool := open(t)
	do(t, pool, "SET", "user:list:features", "x")
	upsert(t, store, featurestore.Write{ID: "old", Values: map[string]any{"n": 1}, Time: later})
	rows := []featurestore.Write{
		{ID: "ann", Values: map[string]any{"n": 1}},
		{ID: "", Values: map[string]any{"n": 1}},
		{ID: "bob", Values: map[string]any{"n": 1.5}},
		{ID: "eve", Values: map[string]any{"country": "\xff"}},
		{ID: "list", Values: map[string]any{"n": 1}},
		{ID: "old", Values: map[string]any{"n": 2}, Time: earlier},
		{ID: "old", Values: map[string]any{"n": 1}, Time: later},
		{ID: "future", Values: map[string]any{"n": 1}, Time: time.Now().Add(100 * time.Hour)},
	}
	outcome := upsert(t, store, rows...)
	same(t, []any{outcome.Written, outcome.Skipped, outcome.Verdicts}, []any{2, 1, "CRRRRSDR"})
	var told []string
	for _, rejected := range outcome.Rejected {
		told = append(told, fmt.Sprintf("%d %s", rejected.Row, rejected.Code))
		if rejected.Reason == "" {
			t.Fatal(rejected)
		}
	}
	same(t, told, []string{"1 BADID", "2 BADTYPE", "3 BADTYPE", "4 WRONGTYPE", "7 BADTIME"})

	many := make([]featurestore.Write, 150)
	for i := range many {
		many[i] = featurestore.Write{ID: fmt.Sprint(i), Values: map[string]any{"n": i}}
	}
	many[120].ID = ""
	outcome = upsert(t, store, many...)
	same(t, []any{outcome.Written, outcome.Rejected[0].Row, outcome.Verdicts[120]}, []any{149, 120, byte('R')})
}

func TestNilRemovesAndWhatIsNotNamedStays(t *testing.T) {
	store, _ := open(t)
	upsert(t, store, featurestore.Write{ID: "ann", Values: ann})
	var none *string
	upsert(t, store, featurestore.Write{ID: "ann", Values: map[string]any{"age": nil, "country": none}},
		featurestore.Write{ID: "bob", Values: map[string]any{"n": 5}})
	same(t, get(t, store, "ann").Values()[:4], []any{nil, int64(math.MaxInt64), true, nil})
	seven := 7
	upsert(t, store, featurestore.Write{ID: "ann", Values: map[string]any{"n": &seven}})
	same(t, get(t, store, "ann").Values()[1], int64(7))
}

func TestAValueOfAnotherTypeIsNotSent(t *testing.T) {
	store, _ := open(t)
	for name, value := range map[string]any{
		"age": "31", "n": true, "active": 1, "country": 5, "embedding": []float64{1, 2, 3},
	} {
		_, err := store.Upsert(featurestore.Write{ID: "ann", Values: map[string]any{"n": 1}},
			featurestore.Write{ID: "bob", Values: map[string]any{name: value}})
		fails(t, err, "BADTYPE", "row 1: "+name)
	}
	same(t, get(t, store, "ann") == nil, true)
}

func TestOverwriteWritesOverWhatIsNewer(t *testing.T) {
	store, _ := open(t)
	upsert(t, store, featurestore.Write{ID: "ann", Values: map[string]any{"n": 1}, Time: later})
	outcome, err := store.Overwrite(featurestore.Write{ID: "ann", Values: map[string]any{"n": 2}, Time: earlier})
	same(t, []any{outcome.Verdicts, err}, []any{"A", nil})
	same(t, get(t, store, "ann").Values()[1], int64(2))
}

func TestIncrementsReturnTheNewValues(t *testing.T) {
	store, _ := open(t)
	row, err := store.Increment("ann", map[string]any{"n": 2, "age": 0.5}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, []any{row.Names(), row.Values()}, []any{[]string{"age", "n"}, []any{0.5, int64(2)}})
	row, err = store.Increment("ann", map[string]any{"age": 0.5}, time.Time{})
	same(t, []any{row.Values(), err}, []any{[]any{1.0}, nil})
	_, err = store.Increment("ann", map[string]any{"country": 1}, time.Time{})
	fails(t, err, "BADTYPE", "country")
	_, err = store.Increment("ann", map[string]any{"never": 1}, time.Time{})
	fails(t, err, "UNDECLARED", "never")
	if _, err = store.Delete("ann", time.Time{}); err != nil {
		t.Fatal(err)
	}
	row, err = store.Increment("ann", map[string]any{"n": 1}, earlier)
	same(t, []any{row == nil, err}, []any{true, nil})
}

func TestEventsAreCountedInWindows(t *testing.T) {
	store, _ := open(t)
	now := time.Now()
	outcome, err := store.Record(
		featurestore.Event{ID: "ann", Values: map[string]float64{"amount": 2.5}, Time: now, EventID: "a"},
		featurestore.Event{ID: "ann", Values: map[string]float64{"amount": 2.5}, Time: now, EventID: "a"},
		featurestore.Event{ID: "ann"},
		featurestore.Event{ID: "ann", Time: earlier},
		featurestore.Event{ID: "ann", Values: map[string]float64{"amount": math.Inf(1)}},
	)
	if err != nil {
		t.Fatal(err)
	}
	same(t, []any{outcome.Written, outcome.Skipped, outcome.Verdicts}, []any{2, 2, "CDASR"})
	same(t, []any{outcome.Rejected[0].Row, outcome.Rejected[0].Code}, []any{4, "BADTYPE"})
	row := get(t, store, "ann")
	clicks, err := row.Int("clicks")
	same(t, []any{clicks, err}, []any{int64(2), nil})
	spent, err := row.Float("spent")
	same(t, []any{spent, err}, []any{2.5, nil})
	_, err = store.Record(featurestore.Event{ID: "ann", Values: map[string]float64{"never": 1}})
	fails(t, err, "UNDECLARED", "never")
}

func TestWhatIsDeletedStaysDeletedForLateRows(t *testing.T) {
	store, _ := open(t)
	upsert(t, store, featurestore.Write{ID: "ann", Values: ann, Time: earlier})
	removed, err := store.Delete("ann", earlier.Add(-time.Second))
	same(t, []any{removed, err}, []any{false, nil}) // what is stored is newer
	removed, err = store.Delete("ann", later)
	same(t, []any{removed, err}, []any{true, nil})
	same(t, upsert(t, store, featurestore.Write{ID: "ann", Values: ann, Time: earlier}).Verdicts, "S")
	same(t, get(t, store, "ann") == nil, true)
	removed, err = store.Delete("nobody", time.Time{})
	same(t, []any{removed, err}, []any{false, nil})
}

func TestScriptsThatRedisLostAreLoadedAgain(t *testing.T) {
	store, pool := open(t)
	rows := make([]featurestore.Write, 250)
	for i := range rows {
		rows[i] = featurestore.Write{ID: "ann", Values: map[string]any{"n": i}}
	}
	for _, call := range []func() error{
		func() error { _, err := store.Upsert(rows...); return err },
		func() error { _, err := store.Get("ann"); return err },
		func() error { _, err := store.GetMany([]string{"ann"}); return err },
		func() error { _, err := store.Describe(); return err },
		func() error { _, err := store.Increment("ann", map[string]any{"n": 1}, time.Time{}); return err },
		func() error { _, err := store.Record(featurestore.Event{ID: "ann"}); return err },
	} {
		do(t, pool, "SCRIPT", "FLUSH")
		same(t, call(), nil)
	}
	row := get(t, store, "ann")
	same(t, []any{row.Values()[1], row.Values()[4]}, []any{int64(250), int64(1)}) // the last row, and each call once
	do(t, pool, "SCRIPT", "FLUSH")
	removed, err := store.Delete("ann", time.Time{})
	same(t, []any{removed, err}, []any{true, nil})
}

func TestGoroutinesShareAStore(t *testing.T) {
	store, pool := open(t)
	upsert(t, store, featurestore.Write{ID: "ann", Values: ann})
	var all sync.WaitGroup
	failures := make(chan error, 8)
	for i := 0; i < 8; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for j := 0; j < 50; j++ {
				if row, err := store.Get("ann"); err != nil || row.Values()[0] != 31.0 {
					failures <- fmt.Errorf("%v: %w", row, err)
					return
				}
			}
		}()
	}
	apply(t, pool, "late", "int")
	all.Wait()
	close(failures)
	for err := range failures {
		t.Fatal(err)
	}
}

func TestAServerWithoutASchemaIsToldAtTheStart(t *testing.T) {
	_, pool := open(t)
	do(t, pool, "FLUSHALL")
	_, err := featurestore.Open(pool, featurestore.Config{})
	fails(t, err, "NOSCHEMA", "no schema is stored")
	_, err = featurestore.Open(pool, featurestore.Config{Entity: "item"})
	fails(t, err, "NOSCHEMA", "no schema is stored")
}

func TestAnotherEntityHasItsOwnKeys(t *testing.T) {
	_, pool := open(t)
	source, _ := os.ReadFile("scripts/apply_schema.lua")
	do(t, pool, "EVAL", source, 1, "item:schema", "price", "float", "@members", "catalogue")
	store, err := featurestore.Open(pool, featurestore.Config{Entity: "item"})
	if err != nil {
		t.Fatal(err)
	}
	upsert(t, store, featurestore.Write{ID: "i1", Values: map[string]any{"price": 2}})
	same(t, do(t, pool, "SISMEMBER", "catalogue", "i1"), int64(1))
	same(t, do(t, pool, "HGET", "item:i1:features", "price"), []byte("2"))
	same(t, get(t, store, "i1").Values(), []any{2.0})
}

// restricted returns connections of a user who may do this and nothing else.
func restricted(t *testing.T, pool featurestore.Pool, rules string) *redis.Pool {
	t.Helper()
	conn := pool.Get()
	defer conn.Close()
	words := redis.Args{"SETUSER", "limited", "reset", "on", ">secret"}.AddFlat(strings.Fields(rules))
	if _, err := conn.Do("ACL", words...); err != nil && strings.Contains(rules, "%R~") {
		t.Skipf("this server has no keys that may only be read: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	limited := &redis.Pool{Dial: func() (redis.Conn, error) {
		return redis.DialURL(os.Getenv("REDIS_URL"), redis.DialUsername("limited"), redis.DialPassword("secret"))
	}}
	t.Cleanup(func() {
		limited.Close()
		do(t, pool, "ACL", "DELUSER", "limited")
	})
	do(t, pool, "SCRIPT", "FLUSH")
	return limited
}

func TestAUserWhoMayOnlyReadReads(t *testing.T) {
	store, pool := open(t)
	upsert(t, store, featurestore.Write{ID: "ann", Values: ann})
	limited := restricted(t, pool, "%R~user:* %R~all_users +evalsha_ro +script|load +sismember +smismember +hget +hmget"+
		" +hgetall +exists +time +type")
	reading, err := featurestore.Open(limited, featurestore.Config{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	same(t, get(t, reading, "ann").Values()[0], 31.0)
	same(t, get(t, reading, "ann", featurestore.WithMetadata()).Metadata.Statuses[:4], "PPPP")
	rows, err := reading.GetMany([]string{"ann", "nobody"})
	same(t, []any{len(rows), err}, []any{2, nil})
	_, err = reading.Upsert(featurestore.Write{ID: "ann", Values: ann})
	fails(t, err, "NOPERM", "")
	_, err = featurestore.Open(limited, featurestore.Config{})
	fails(t, err, "NOPERM", "")
}

func TestAUserWhoMayWriteNeedsNoMoreThanThis(t *testing.T) {
	_, pool := open(t)
	store, err := featurestore.Open(restricted(t, pool, "~user:* ~all_users +evalsha +script|load +sismember +smismember"+
		" +scard +sadd +srem +hget +hgetall +hmget +hset +hdel +hexists +exists +del +pexpire +pexpireat +persist +time +type"),
		featurestore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, upsert(t, store, featurestore.Write{ID: "ann", Values: ann, Time: earlier}).Written, 1)
	same(t, get(t, store, "ann").Values()[0], 31.0)
	if _, err := store.Increment("ann", map[string]any{"age": 1}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Record(featurestore.Event{ID: "ann"}); err != nil {
		t.Fatal(err)
	}
	removed, err := store.Delete("ann", time.Time{})
	same(t, []any{removed, err}, []any{true, nil})
}

func TestABrokenConnectionIsAnErrorNotAnAnswer(t *testing.T) {
	store, pool := open(t)
	upsert(t, store, featurestore.Write{ID: "ann", Values: ann})
	do(t, pool, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
	row, err := store.Get("ann")
	if err == nil || row != nil {
		t.Fatal(row, err)
	}
	same(t, get(t, store, "ann").Values()[0], 31.0) // the pool has dropped that connection
}
