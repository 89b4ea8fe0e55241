//! The compiler. In: a profile and a component. Out: code that engines of the same profile load.

use crate::CompileError;
use crate::profile::EngineProfile;
use heddle_protocol::defaults::ARTIFACT_BYTES_MAX;
use heddle_protocol::host_spec::Wasi;
use wasmtime::Engine;

/// Compiles a component. Takes seconds of processor time for large ones: call it where it may block.
pub fn compile(profile: &EngineProfile, wasi: Wasi, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    let (bytes, max) = (component.len() as u64, ARTIFACT_BYTES_MAX);
    if bytes > max {
        return Err(CompileError::TooLarge { bytes, max });
    }
    let config = profile.config(wasi).map_err(CompileError::Engine)?;
    let engine = Engine::new(&config).map_err(CompileError::Engine)?;
    engine.precompile_component(component).map_err(CompileError::Component)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuLevel;
    use wasmtime::component::{Component, Linker};
    use wasmtime::{PoolingAllocationConfig, Store};

    fn adds() -> Vec<u8> {
        wat::parse_str(
            r#"(component
                (core module $m
                    (memory 1)
                    (func (export "add") (param i32 i32) (result i32)
                        local.get 0 i32.popcnt local.get 1 i32.clz i32.add i32.const 0 i32.load i32.add))
                (core instance $i (instantiate $m))
                (func (export "add") (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "add"))))"#,
        )
        .unwrap()
    }

    /// Loads code in an engine of this machine, as an agent does, and calls it.
    fn run(code: &[u8], wasi: Wasi, compiler: bool) -> wasmtime::Result<u32> {
        let mut config = EngineProfile::of_this_machine().config(wasi)?;
        let mut pool = PoolingAllocationConfig::default();
        pool.total_component_instances(2)
            .total_memories(2)
            .total_core_instances(4);
        config.allocation_strategy(pool);
        config.enable_compiler(compiler);
        let engine = Engine::new(&config)?;
        // SAFETY: the code was compiled by this test.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize(&engine, code)? };
        let mut store = Store::new(&engine, ());
        store.set_epoch_deadline(1);
        let instance = Linker::new(&engine).instantiate(&mut store, &component)?;
        let add = instance.get_typed_func::<(u32, u32), (u32,)>(&mut store, "add")?;
        Ok(add.call(&mut store, (7, 1))?.0)
    }

    #[test]
    fn code_for_this_machine_and_for_lesser_ones_runs_here() {
        let here = EngineProfile::of_this_machine();
        for cpu in ["baseline", "x86-64-v2", "x86-64-v3", "x86-64-v4"] {
            let cpu = CpuLevel::parse(cpu).unwrap();
            if cpu > CpuLevel::of_this_machine() {
                continue;
            }
            for wasi in [Wasi::P2, Wasi::P3] {
                let code = compile(&here.clone().with_cpu(cpu), wasi, &adds()).unwrap();
                assert_eq!(run(&code, wasi, true).unwrap(), 34, "{cpu} {wasi:?}");
            }
        }
    }

    #[test]
    fn code_needs_no_compiler_to_be_loaded() {
        let code = compile(&EngineProfile::of_this_machine(), Wasi::P2, &adds()).unwrap();
        assert_eq!(run(&code, Wasi::P2, false).unwrap(), 34);
    }

    #[test]
    fn code_for_the_other_engine_is_not_loaded() {
        let code = compile(&EngineProfile::of_this_machine(), Wasi::P2, &adds()).unwrap();
        assert!(run(&code, Wasi::P3, true).is_err());
    }

    #[test]
    fn what_is_no_component_is_refused_with_the_reason() {
        let here = EngineProfile::of_this_machine();
        let refused = compile(&here, Wasi::P2, b"\0asm nothing").unwrap_err();
        assert!(matches!(refused, CompileError::Component(_)));
        let large = vec![0; ARTIFACT_BYTES_MAX as usize + 1];
        assert!(matches!(
            compile(&here, Wasi::P2, &large),
            Err(CompileError::TooLarge { .. })
        ));
    }
}
