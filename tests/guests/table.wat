;; A guest that takes a table as large as it can get. In: any request. Out: it traps as soon as it is refused more, and
;; never gives the processor back if it got more than 32 MiB, at 8 bytes an element. No language with a compiler for
;; components can say this, so it is written by hand.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $out))
  (core module $greedy
    (table $t 1 funcref)
    (func (export "handle") (param i32 i32)
      (loop $more
        (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
      (if (i32.gt_u (table.size $t) (i32.const 4194304))
        (then (loop $for_ever (br $for_ever))))
      unreachable))
  (core instance $greedy (instantiate $greedy))
  (func $handle (param "request" (own $request)) (param "response-out" (own $out))
    (canon lift (core func $greedy "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
