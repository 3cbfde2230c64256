package featurestore

import "fmt"

// Schema is what describe_entity tells. Times are in ms, and 0 where the schema sets none.
type Schema struct {
	Version, TTL, MaxAge, Tombstone, MaxAhead int64

	Layout           string             // the digest of what all features are, and the word that reads rows of it
	Features         []string           // in declared order
	Types            map[string]string  // feature → type
	Row              []string           // the features of the packed row, which reads give
	Services         map[string]Service // lists of features that are read under one name
	JoinKey, Members string             // the name of the id in tables; the key of the set of ids

	places map[string]int // feature → its place in Row
	row    *columns       // all of the packed row
}

// Service is a list of features, and its digest.
type Service struct {
	Digest   string
	Features []string
}

func readSchema(reply any) (schema *Schema, err error) {
	defer func() { // of the assertions below
		if wrong := recover(); wrong != nil {
			schema, err = nil, fmt.Errorf("featurestore: the reply of describe_entity is no schema: %v", wrong)
		}
	}()
	value, err := decode(reply.([]byte))
	if err != nil {
		return nil, err
	}
	told := value.(map[string]any)
	if told["contract"] != int64(1) {
		return nil, fmt.Errorf("featurestore: the scripts' contract is %v, this package speaks 1", told["contract"])
	}
	number := func(key string) int64 { found, _ := told[key].(int64); return found } // nil: 0
	text := func(key string) string { found, _ := told[key].(string); return found }
	schema = &Schema{
		Version: number("version"), TTL: number("ttl"), MaxAge: number("max_age"), Tombstone: number("tombstone"),
		MaxAhead: number("max_ahead"), Layout: told["layout"].(string), Types: map[string]string{},
		Row: texts(told["row"]), Services: map[string]Service{}, JoinKey: text("join_key"), Members: told["members"].(string),
	}
	for _, feature := range told["features"].([]any) {
		pair := texts(feature)
		schema.Features, schema.Types[pair[0]] = append(schema.Features, pair[0]), pair[1]
	}
	schema.places = make(map[string]int, len(schema.Row))
	for place, name := range schema.Row {
		schema.places[name] = place
	}
	if schema.row, err = schema.columns(schema.Row); err != nil {
		return nil, err
	}
	schema.row.digest, schema.row.readCosts = schema.Layout, costsOf(schema.row.types, true)
	for _, service := range told["services"].([]any) {
		parts := service.([]any)
		schema.Services[parts[0].(string)] = Service{parts[1].(string), texts(parts[2])}
	}
	return schema, nil
}

func texts(list any) (found []string) {
	for _, each := range list.([]any) {
		found = append(found, each.(string))
	}
	return found
}

// columns is what a row is aligned with.
type columns struct {
	digest       string // the layout; empty where the features are asked for by name
	names, types []string
	places       []int // of the names in the packed row, where that is read for some of its features; else nil
	width        int   // how many values a reply has
	readCosts
}

// columns returns features as they are read by name.
func (s *Schema) columns(names []string) (*columns, error) {
	types := make([]string, len(names))
	for i, name := range names {
		if types[i] = s.Types[name]; types[i] == "" {
			return nil, &Error{"UNDECLARED", name + " is not declared in the schema"}
		}
	}
	return &columns{names: names, types: types, width: len(names), readCosts: costsOf(types, false)}, nil
}

// pick has the names picked of the packed row, if they are all in it and it costs Redis less than they do by name.
func (c *columns) pick(schema *Schema, aged bool) {
	places := make([]int, len(c.names))
	for i, name := range c.names {
		place, known := schema.places[name]
		if !known {
			return
		}
		places[i] = place
	}
	if row := schema.row; row.isCheaper(row.width-len(places), c.readCosts, aged) {
		c.digest, c.places, c.width, c.readCosts = row.digest, places, row.width, row.readCosts
	}
}

// picked returns what belongs to the names of what came for all features of the row.
func picked[T any](c *columns, all []T) []T {
	if c.places == nil {
		return all
	}
	some := make([]T, len(c.places))
	for i, place := range c.places {
		some[i] = all[place]
	}
	return some
}
