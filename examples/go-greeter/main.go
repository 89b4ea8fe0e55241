// A greeter in Go. In: a name, or bytes. Out: a greeting that says which language it comes from, an error for a name that
// is empty, or the same bytes. It exports example:greet/greeter by the component model's own calling convention, written
// out here, so that it needs no generated code and no module from elsewhere.
package main

import "unsafe"

func main() {}

// What a result points to must stay where it is until the caller has read it. A replica serves one call at a time per
// instance, and the caller says with cabi_post_… when it is done.
var kept [][]byte

// keep makes room that the garbage collector leaves alone, and returns where it is.
func keep(size uint32) ([]byte, uint32) {
	room := make([]byte, size+1) // One more, so that even nothing has an address.
	kept = append(kept, room)
	return room[:size], address(unsafe.Pointer(&room[0]))
}

func address(p unsafe.Pointer) uint32 { return uint32(uintptr(p)) }

// The arguments are written here by the caller's side of the call. The name is not cabi_realloc, which the adapter for
// WASI 0.1 would call before Go's runtime has started.
//
//go:wasmexport cabi_export_realloc
func reallocate(old unsafe.Pointer, oldSize, align, newSize uint32) unsafe.Pointer {
	// Room for 8 more bytes, because what lists hold may want an address that is a multiple of up to 8.
	room, at := keep(newSize + 8)
	skip := (align - at%align) % align
	if old != nil {
		copy(room[skip:], unsafe.Slice((*byte)(old), min(oldSize, newSize)))
	}
	return unsafe.Pointer(&room[skip])
}

// What a string or a list of bytes is in memory.
type list struct {
	start, size uint32
}

// What result<string, string> is in memory.
type result struct {
	failed uint32
	text   list
}

var (
	answered list
	outcome  result
)

func give(bytes []byte) list {
	room, at := keep(uint32(len(bytes)))
	copy(room, bytes)
	return list{at, uint32(len(bytes))}
}

func taken(start unsafe.Pointer, size uint32) []byte {
	if size == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(start), size)
}

func greeting(name []byte) []byte {
	return []byte("Hello from Go, " + string(name) + "!")
}

//go:wasmexport example:greet/greeter@0.1.0#greet
func greet(start unsafe.Pointer, size uint32) unsafe.Pointer {
	answered = give(greeting(taken(start, size)))
	return unsafe.Pointer(&answered)
}

//go:wasmexport example:greet/greeter@0.1.0#try-greet
func tryGreet(start unsafe.Pointer, size uint32) unsafe.Pointer {
	if size == 0 {
		outcome = result{1, give([]byte("nobody to greet"))}
	} else {
		outcome = result{0, give(greeting(taken(start, size)))}
	}
	return unsafe.Pointer(&outcome)
}

//go:wasmexport example:greet/greeter@0.1.0#echo
func echo(start unsafe.Pointer, size uint32) unsafe.Pointer {
	answered = give(taken(start, size))
	return unsafe.Pointer(&answered)
}

//go:wasmexport cabi_post_example:greet/greeter@0.1.0#greet
func greetRead(unsafe.Pointer) { kept = nil }

//go:wasmexport cabi_post_example:greet/greeter@0.1.0#try-greet
func tryGreetRead(unsafe.Pointer) { kept = nil }

//go:wasmexport cabi_post_example:greet/greeter@0.1.0#echo
func echoRead(unsafe.Pointer) { kept = nil }
