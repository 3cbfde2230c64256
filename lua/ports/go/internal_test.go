package featurestore

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestARepliesBytesAreOneValueOrAnError(t *testing.T) {
	whole := "\x96\xcf\x7f\xff\xff\xff\xff\xff\xff\xff\xcb?\xb9\x99\x99\x99\x99\x99\x9a\xa2ab\xc4\x02\x00\xff\x81\xa1k\xd1\xff\x00\xdc\x00\x01\xc3"
	value, err := decode([]byte(whole))
	if err != nil || len(value.([]any)) != 6 {
		t.Fatal(value, err)
	}
	broken := []string{whole + "\x00", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "\xc1", "\xdd\xff\xff\xff\xff", "\xdb\xff\xff\xff\xff", "\x81\x01\x01"}
	for size := range whole {
		broken = append(broken, whole[:size])
	}
	for _, encoded := range broken {
		padded := append([]byte(encoded), make([]byte, 64)...) // what stands behind a reply is not read
		if value, err := decode(padded[:len(encoded)]); err == nil {
			t.Fatalf("%q became %v", encoded, value)
		}
	}
}

func TestAListOfManyValuesIsRead(t *testing.T) {
	value, err := decode([]byte("\xdc\x01\x00" + strings.Repeat("\x01", 256)))
	if err != nil || len(value.([]any)) != 256 {
		t.Fatal(value, err)
	}
}

func TestScriptsOfAnotherContractAreRefused(t *testing.T) {
	for encoded, wanted := range map[string]string{
		"\x81\xa8contract\x02": "the scripts' contract is 2, this package speaks 1",
		"\x81\xa8contract\x01": "is no schema",
		"\x90":                 "is no schema",
	} {
		if schema, err := readSchema([]byte(encoded)); schema != nil || err == nil || !strings.Contains(err.Error(), wanted) {
			t.Fatal(schema, err)
		}
	}
	if _, err := readSchema(int64(5)); err == nil {
		t.Fatal("a number is no schema")
	}
}

func TestCallsBehindOneThatMissedItsScriptAreMadeAgainInTheirOrder(t *testing.T) {
	conn := dial(t)
	if _, err := conn.Do("FLUSHALL"); err != nil {
		t.Fatal(err)
	}
	counting := scriptOf([]byte(`local n = redis.call('INCR', KEYS[1])
		if n == 2 then return redis.error_reply('NOSCRIPT as if it were lost before the second call') end
		return {n, ARGV[1]}`))
	if _, err := conn.Do("SCRIPT", "LOAD", counting.source); err != nil {
		t.Fatal(err)
	}
	store := &Store{pool: onlyConn{conn}}
	replies, err := store.call(counting, "EVALSHA", []any{1, "n", "a"}, []any{1, "n", "b"}, []any{1, "n", "c"})
	wanted := []any{[]any{int64(1), []byte("a")}, []any{int64(4), []byte("b")}, []any{int64(5), []byte("c")}}
	if err != nil || !reflect.DeepEqual(replies, wanted) {
		t.Fatalf("%q %v", replies, err)
	}
}

func TestCostsAreThoseOfThePythonStore(t *testing.T) {
	text, err := os.ReadFile(os.Getenv("FEATURESTORE_COSTS"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Row     []string
		Picked  int // so many of the last
		Us      map[string]float64
		Cheaper []bool // without times, and with
		InCall  []int  `json:"in_call"` // of stored rows, and of those to be made
	}
	if err := json.Unmarshal(text, &cases); err != nil || len(cases) == 0 {
		t.Fatal(len(cases), err)
	}
	for _, each := range cases {
		first := len(each.Row) - each.Picked
		features, names := map[string]string{}, []string{}
		for i, kind := range each.Row {
			name := fmt.Sprint("f", i)
			if features[name] = kind; i >= first {
				names = append(names, name)
			}
		}
		row, named := costsOf(each.Row, true), costsOf(each.Row[first:], false)
		for what, us := range map[string]float64{
			"row": row.rowUs, "named": named.rowUs, "ages": row.agesUs, "made": row.madeUs,
			"upsert": upsertRowUs(names, features), "event": eventRowUs(features),
		} {
			if math.Abs(us-each.Us[what]) > 1e-6 {
				t.Fatal(what, us, each)
			}
		}
		cheaper := []bool{row.isCheaper(first, named, false), row.isCheaper(first, named, true)}
		inCall := []int{rowsPerCall(row.rowUs), rowsPerCall(row.madeUs)}
		if !reflect.DeepEqual(cheaper, each.Cheaper) || !reflect.DeepEqual(inCall, each.InCall) {
			t.Fatal(cheaper, inCall, each)
		}
	}
}
