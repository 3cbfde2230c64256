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
	digest       string // of the layout or the service; empty where the caller gave names
	names, types []string
}

func (s *Schema) columns(digest string, names []string) (*columns, error) {
	types := make([]string, len(names))
	for i, name := range names {
		if types[i] = s.Types[name]; types[i] == "" {
			return nil, &Error{"UNDECLARED", name + " is not declared in the schema"}
		}
	}
	return &columns{digest, names, types}, nil
}
