;; The least that a module must do which guards downloads: it reads a request's headers and takes the credential off. It has
;; the callbacks that ours has, and looks at nothing.
(module
  (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
  (import "env" "proxy_remove_header_map_value" (func $remove (param i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 1024) "authorization")
  (func (export "proxy_abi_version_0_2_1"))
  ;; Envoy puts the headers here, for each request over those of the one before: nothing is kept.
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 65536))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $pairs (i32.const 0) (i32.const 512) (i32.const 516)))
    (drop (call $remove (i32.const 0) (i32.const 1024) (i32.const 13)))
    (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "proxy_on_delete") (param i32)))
