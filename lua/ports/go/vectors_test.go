package featurestore

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/gomodule/redigo/redis"
)

// vectorFile is a file of tests/vectors, whose README tells the format.
type vectorFile struct {
	Contract int
	Cases    []struct {
		Name  string
		Steps []step
	}
}

type step struct {
	Script              string
	Keys, Args, Command []word
	Reply               map[string]json.RawMessage
}

// word is bytes: text, or {"hex": …}.
type word []byte

func (w *word) UnmarshalJSON(given []byte) error {
	var text string
	if err := json.Unmarshal(given, &text); err == nil {
		*w = []byte(text)
		return nil
	}
	var binary struct{ Hex string }
	err := json.Unmarshal(given, &binary)
	if err == nil {
		*w, err = hex.DecodeString(binary.Hex)
	}
	return err
}

func TestTheVectorsHold(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(os.Getenv("FEATURESTORE_VECTORS"), "*.json"))
	if len(files) == 0 {
		t.Fatal("FEATURESTORE_VECTORS names no folder with vectors")
	}
	conn := dial(t)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var vectors vectorFile
		decoder := json.NewDecoder(bytes.NewReader(text))
		if err := decoder.Decode(&vectors); err != nil || len(vectors.Cases) == 0 || vectors.Contract != 1 {
			t.Fatalf("%s: %v, %d cases of contract %d", file, err, len(vectors.Cases), vectors.Contract)
		}
		for _, each := range vectors.Cases {
			steps := each.Steps
			t.Run(filepath.Base(file)+"/"+each.Name, func(t *testing.T) {
				if _, err := conn.Do("FLUSHALL"); err != nil {
					t.Fatal(err)
				}
				for number, step := range steps {
					reply, err := take(t, conn, step)
					if err != nil {
						reply = err
					}
					if wrong := misfit(step.Reply, reply); step.Reply != nil && wrong != "" {
						t.Fatalf("step %d, %s: %s", number+1, step.Script, wrong)
					}
				}
			})
		}
	}
}

// take does one step by the port's own way of calling a script.
func take(t *testing.T, conn redis.Conn, step step) (any, error) {
	if step.Script == "" {
		reply, err := conn.Do(string(step.Command[0]), anyOf(step.Command[1:])...)
		return reply, asError(err)
	}
	source, err := os.ReadFile("scripts/" + step.Script + ".lua")
	if err != nil {
		t.Fatal(err)
	}
	words := append([]any{len(step.Keys)}, append(anyOf(step.Keys), anyOf(step.Args)...)...)
	store := &Store{pool: onlyConn{conn}}
	replies, err := store.call(scriptOf(source), "EVALSHA", words)
	if err != nil {
		return nil, err
	}
	return replies[0], nil
}

type onlyConn struct{ conn redis.Conn }

func (o onlyConn) Get() redis.Conn { return kept{o.conn} }

type kept struct{ redis.Conn }

func (kept) Close() error { return nil }

func anyOf(words []word) (list []any) {
	for _, each := range words {
		list = append(list, []byte(each))
	}
	return list
}

// misfit returns what is wrong with a reply, "" where nothing is.
func misfit(wanted map[string]json.RawMessage, reply any) string {
	for form, given := range wanted {
		switch form {
		case "nil":
			if reply != nil {
				return fmt.Sprintf("want nil, got %#v", reply)
			}
		case "int", "int_at_least":
			var number int64
			got, is := reply.(int64)
			if err := json.Unmarshal(given, &number); err != nil || !is || got < number || (form == "int" && got != number) {
				return fmt.Sprintf("want %s %s, got %#v", form, given, reply)
			}
		case "error", "error_code":
			var text string
			failure, is := reply.(*Error)
			if err := json.Unmarshal(given, &text); err != nil || !is || (form == "error" && failure.Error() != text) ||
				(form == "error_code" && failure.Code != text) {
				return fmt.Sprintf("want %s %s, got %v", form, given, reply)
			}
		case "array":
			var list []map[string]json.RawMessage
			got, is := reply.([]any)
			if err := json.Unmarshal(given, &list); err != nil || !is || len(got) != len(list) {
				return fmt.Sprintf("want an array of %d, got %#v", len(list), reply)
			}
			for i, each := range list {
				if wrong := misfit(each, got[i]); wrong != "" {
					return fmt.Sprintf("at %d: %s", i, wrong)
				}
			}
		case "bulk":
			var bulk word
			got, is := reply.([]byte)
			if err := json.Unmarshal(given, &bulk); err != nil || !is || !bytes.Equal(got, bulk) {
				return fmt.Sprintf("want %q, got %q", []byte(bulk), reply)
			}
		case "msgpack", "values":
			encoded, is := reply.([]byte)
			if !is {
				return fmt.Sprintf("want msgpack, got %v", reply)
			}
			var digest string
			if wanted["digest"] != nil {
				if err := json.Unmarshal(wanted["digest"], &digest); err != nil || !strings.HasPrefix(string(encoded), digest) {
					return fmt.Sprintf("want the digest %s, got %q", digest, encoded)
				}
			}
			if wrong := decodesTo(given, encoded[len(digest):]); wrong != "" {
				return wrong
			}
		case "digest":
		default:
			return "this test knows no reply of the form " + form
		}
	}
	return ""
}

func decodesTo(given json.RawMessage, encoded []byte) string {
	decoder := json.NewDecoder(bytes.NewReader(given))
	decoder.UseNumber()
	var wanted any
	if err := decoder.Decode(&wanted); err != nil {
		return err.Error()
	}
	got, err := decode(encoded)
	if expected := valueIn(wanted); err != nil || !reflect.DeepEqual(got, expected) {
		return fmt.Sprintf("want %#v, got %#v, %v", expected, got, err)
	}
	return ""
}

// valueIn returns the value that a vector spells as JSON.
func valueIn(given any) any {
	switch found := given.(type) {
	case json.Number:
		number, err := found.Int64()
		if err != nil {
			return err
		}
		return number
	case []any:
		list := make([]any, len(found))
		for i, each := range found {
			list[i] = valueIn(each)
		}
		return list
	case map[string]any:
		for form, inner := range found {
			if pairs, is := inner.(map[string]any); is && form == "map" {
				made := map[string]any{}
				for key, each := range pairs {
					made[key] = valueIn(each)
				}
				return made
			}
			var value any
			err := fmt.Errorf("no value has the form %s", form)
			switch text := inner.(string); form {
			case "int":
				value, err = strconv.ParseInt(text, 10, 64)
			case "float":
				value, err = strconv.ParseFloat(text, 64)
			case "hex":
				value, err = hex.DecodeString(text)
			}
			if err != nil {
				return err
			}
			return value
		}
	}
	return given
}

func dial(t *testing.T) redis.Conn {
	t.Helper()
	url := os.Getenv("REDIS_URL")
	if !strings.HasPrefix(url, "redis://") {
		t.Fatal("REDIS_URL names no server for the tests, whose keys they delete")
	}
	conn, err := redis.DialURL(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
