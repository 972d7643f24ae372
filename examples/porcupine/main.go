// Judges a history of `wallet-gql lab check --out` with Porcupine: is there one order of all operations, each between
// its request and its answer, that a bank with balances and holds explains?
//
//	go run . history-sqlite-1.porcupine.jsonl
//
// Exit code 0: yes. 1: no. 2: not decided within the time, or the file cannot be read.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

type operation struct {
	Client   int      `json:"client"`
	Verb     string   `json:"verb"`
	Outcome  string   `json:"outcome"`
	Call     int64    `json:"call"`
	Return   int64    `json:"return"`
	Amount   int64    `json:"amount"`
	From     int      `json:"from"`
	To       int      `json:"to"`
	Hold     int      `json:"hold"`
	Balances []*int64 `json:"balances"`
}

type hold struct {
	from, to int
	amount   int64
}

// bank is one state: the balances, and the open holds by number. Steps copy it.
type bank struct {
	posted []int64
	open   map[int]hold
}

func (b bank) available(account int) int64 {
	free := b.posted[account]
	for _, one := range b.open {
		if one.from == account {
			free -= one.amount
		}
	}
	return free
}

func (b bank) copied() bank {
	open := make(map[int]hold, len(b.open))
	for number, one := range b.open {
		open[number] = one
	}
	return bank{slices.Clone(b.posted), open}
}

// step says whether an operation may have its outcome in a state, and which state follows.
func step(before bank, op operation) (bool, bank) {
	if op.Verb == "read" || op.Verb == "page" {
		for account, seen := range op.Balances {
			if seen != nil && *seen != before.posted[account] {
				return false, before
			}
		}
		return true, before
	}
	after := before.copied()
	possible := after.apply(op)
	switch op.Outcome {
	case "refused":
		return !possible, before
	case "unknown":
		return true, after // at worst after everything else, where nobody sees it
	default:
		return possible, after
	}
}

// apply changes the state, if the operation is possible in it.
func (b bank) apply(op operation) bool {
	switch op.Verb {
	case "transfer":
		if b.available(op.From) < op.Amount {
			return false
		}
		b.posted[op.From] -= op.Amount
		b.posted[op.To] += op.Amount
	case "hold":
		if b.available(op.From) < op.Amount {
			return false
		}
		b.open[op.Hold] = hold{op.From, op.To, op.Amount}
	case "capture", "void":
		one, isOpen := b.open[op.Hold]
		if !isOpen || (op.Verb == "capture" && one.amount < op.Amount) {
			return false
		}
		if op.Verb == "capture" {
			b.posted[one.from] -= op.Amount
			b.posted[one.to] += op.Amount
		}
		delete(b.open, op.Hold)
	default:
		panic("an unknown verb: " + op.Verb)
	}
	return true
}

func equal(a, b bank) bool {
	if !slices.Equal(a.posted, b.posted) || len(a.open) != len(b.open) {
		return false
	}
	for number, one := range a.open {
		if b.open[number] != one {
			return false
		}
	}
	return true
}

func read(path string) (bank, []porcupine.Operation, error) {
	file, err := os.Open(path)
	if err != nil {
		return bank{}, nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	var first struct {
		Opening []int64 `json:"opening"`
	}
	if !lines.Scan() {
		return bank{}, nil, fmt.Errorf("%s is empty", path)
	}
	if err := json.Unmarshal(lines.Bytes(), &first); err != nil {
		return bank{}, nil, err
	}
	var operations []porcupine.Operation
	for lines.Scan() {
		var op operation
		if err := json.Unmarshal(lines.Bytes(), &op); err != nil {
			return bank{}, nil, err
		}
		operations = append(operations, porcupine.Operation{ClientId: op.Client, Input: op, Call: op.Call, Return: op.Return})
	}
	return bank{first.Opening, map[int]hold{}}, operations, lines.Err()
}

func main() {
	limit := flag.Duration("limit", time.Minute, "how long to search")
	flag.Parse()
	opening, operations, err := read(flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	model := porcupine.Model{
		Init:  func() any { return opening },
		Step:  func(state, input, _ any) (bool, any) { return step(state.(bank), input.(operation)) },
		Equal: func(a, b any) bool { return equal(a.(bank), b.(bank)) },
	}
	began := time.Now()
	result := porcupine.CheckOperationsTimeout(model, operations, *limit)
	fmt.Printf("%s: %d operations in %s: %s\n", flag.Arg(0), len(operations), time.Since(began).Round(time.Millisecond), result)
	os.Exit(map[porcupine.CheckResult]int{porcupine.Ok: 0, porcupine.Illegal: 1, porcupine.Unknown: 2}[result])
}
