//! Profiles: everything that code depends on beside the component itself, as values that can be sent.
//!
//! In: the machine that this runs on, or settings by name as a hello carries them. Out: wasmtime's configuration and the
//! fingerprint. Equal profiles have equal fingerprints wherever they are made; what is not known is refused, for code
//! made with a setting left out would not fit.

use crate::cpu::CpuLevel;
use heddle_protocol::host_spec::Wasi;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use wasmtime::Config;

/// The version of wasmtime. Patches count: they mend the compiler too. (A test compares it with the lock file.)
pub const WASMTIME: &str = "48.0.8";
/// Raised with each change of [`EngineProfile::config`] that code depends on. (A test notices such changes.)
const SETTINGS: &str = "1";
/// Address space of one memory, in bytes: all that 32-bit guests can name, so that no access needs a bounds check.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;
/// Unmapped space behind a memory, in bytes: constant offsets below this need no check either.
const MEMORY_GUARD_BYTES: u64 = 32 << 20;
/// Largest sizes that are taken from somebody else's profile, in bytes.
const MEMORY_BYTES_MAX: u64 = 8 << 30;

/// Stack of a guest, in bytes: deep enough for interpreters.
const WASM_STACK_BYTES: usize = 1 << 20;
/// Stack of a call, in bytes: the guest's, and room for what the host does on top.
const ASYNC_STACK_BYTES: usize = 2 << 20;

/// What must be equal for code to be exchangeable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineProfile {
    target: String,
    cpu: CpuLevel,
    memory_reservation: u64,
    memory_guard: u64,
}

/// Why a profile cannot be used here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Another release compiles for it.
    #[error("the engine has {name} {found:?}, and this release compiles for {known:?}")]
    Other {
        /// The setting.
        name: &'static str,
        /// What it is there.
        found: String,
        /// What it is here.
        known: &'static str,
    },
    /// A setting is missing, or its value means nothing here.
    #[error("the engine's profile has no usable {0}")]
    Value(&'static str),
    /// A setting that this release does not know.
    #[error("the engine's profile has a setting {0:?}, which this release does not know")]
    Unknown(String),
}

impl EngineProfile {
    /// The profile of engines on this machine.
    pub fn of_this_machine() -> Self {
        Self {
            target: env!("HEDDLE_TARGET").to_owned(),
            cpu: CpuLevel::of_this_machine(),
            memory_reservation: MEMORY_RESERVATION_BYTES,
            memory_guard: MEMORY_GUARD_BYTES,
        }
    }

    /// The same for processors of another level.
    pub fn with_cpu(mut self, cpu: CpuLevel) -> Self {
        self.cpu = cpu;
        self
    }

    /// The target triple.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Reads settings by name.
    pub fn read(settings: &BTreeMap<String, String>) -> Result<Self, ProfileError> {
        const KNOWN: [&str; 6] = [
            "wasmtime",
            "settings",
            "target",
            "cpu",
            "memory-reservation",
            "memory-guard",
        ];
        if let Some(unknown) = settings.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return Err(ProfileError::Unknown(unknown.chars().take(64).collect()));
        }
        let value = |name: &'static str| {
            let value = settings.get(name).filter(|value| value.len() <= 64);
            value.ok_or(ProfileError::Value(name))
        };
        for (name, known) in [("wasmtime", WASMTIME), ("settings", SETTINGS)] {
            let found = value(name)?.clone();
            if found != known {
                return Err(ProfileError::Other { name, found, known });
            }
        }
        let size = |name| {
            let size = value(name)?.parse::<u64>().ok();
            let usable = size.filter(|size| *size <= MEMORY_BYTES_MAX && size % (64 << 10) == 0);
            usable.ok_or(ProfileError::Value(name))
        };
        let target = value("target")?.clone();
        let cpu = CpuLevel::parse(value("cpu")?).filter(|cpu| cpu.fits(&target));
        Ok(Self {
            cpu: cpu.ok_or(ProfileError::Value("cpu"))?,
            memory_reservation: size("memory-reservation")?,
            memory_guard: size("memory-guard")?,
            target,
        })
    }

    /// The settings by name, as a hello carries them.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let settings = [
            ("wasmtime", WASMTIME.to_owned()),
            ("settings", SETTINGS.to_owned()),
            ("target", self.target.clone()),
            ("cpu", self.cpu.to_string()),
            ("memory-reservation", self.memory_reservation.to_string()),
            ("memory-guard", self.memory_guard.to_string()),
        ];
        settings.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// A digest of everything that code depends on. Code fits only the same fingerprint.
    pub fn fingerprint(&self, wasi: Wasi) -> String {
        let mut sum = Sha256::new();
        for (name, value) in self.settings() {
            for part in [name, value] {
                sum.update((part.len() as u64).to_le_bytes());
                sum.update(part);
            }
        }
        sum.update(match wasi {
            Wasi::P2 => b"p2",
            Wasi::P3 => b"p3",
        });
        hex::encode(&sum.finalize()[..16])
    }

    /// Wasmtime's configuration. How instances are made is not part of it: code does not depend on that.
    pub fn config(&self, wasi: Wasi) -> wasmtime::Result<Config> {
        let mut config = Config::new();
        // Named, even where it is this machine's own: otherwise the compiler takes every feature of this processor.
        config.target(&self.target)?;
        #[cfg(feature = "compiler")]
        for flag in self.cpu.flags() {
            // SAFETY: these flags only say which instructions there are; wasmtime asks the processor for each of them
            // before it runs such code.
            #[allow(unsafe_code)]
            unsafe {
                config.cranelift_flag_enable(flag);
            }
        }
        config.memory_reservation(self.memory_reservation);
        config.memory_guard_size(self.memory_guard);
        config.wasm_component_model(true);
        // Guests are interrupted at their deadline, and let others run at each tick until then.
        config.epoch_interruption(true);
        config.memory_init_cow(true);
        config.max_wasm_stack(WASM_STACK_BYTES);
        config.async_stack_size(ASYNC_STACK_BYTES);
        // Guests of WASI 0.2 do without concurrency support, which makes their calls cheaper; those of 0.3 need it.
        let concurrent = wasi == Wasi::P3;
        config.concurrency_support(concurrent);
        config.wasm_component_model_async(concurrent);
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{Hash, Hasher};

    #[test]
    fn a_profile_comes_back_from_its_settings_with_the_same_fingerprint() {
        let here = EngineProfile::of_this_machine();
        let read = EngineProfile::read(&here.settings()).unwrap();
        assert_eq!(read, here);
        for wasi in [Wasi::P2, Wasi::P3] {
            assert_eq!(read.fingerprint(wasi), here.fingerprint(wasi));
        }
        assert_ne!(here.fingerprint(Wasi::P2), here.fingerprint(Wasi::P3));
    }

    #[test]
    fn every_setting_counts_in_the_fingerprint() {
        let here = EngineProfile::of_this_machine().with_cpu(CpuLevel::Baseline);
        let others = [
            EngineProfile {
                target: "riscv64gc-unknown-linux-gnu".into(),
                ..here.clone()
            },
            here.clone().with_cpu(CpuLevel::V2),
            EngineProfile {
                memory_reservation: 1 << 20,
                ..here.clone()
            },
            EngineProfile {
                memory_guard: 1 << 20,
                ..here.clone()
            },
        ];
        for other in others {
            assert_ne!(other.fingerprint(Wasi::P2), here.fingerprint(Wasi::P2), "{other:?}");
        }
    }

    #[test]
    fn a_profile_of_another_release_is_refused() {
        let with = |name: &str, value: &str| {
            let mut settings = EngineProfile::of_this_machine().settings();
            settings.insert(name.into(), value.into());
            EngineProfile::read(&settings)
        };
        assert!(matches!(with("wasmtime", "47.0.0"), Err(ProfileError::Other { .. })));
        assert!(matches!(with("settings", "0"), Err(ProfileError::Other { .. })));
        assert!(matches!(with("colour", "red"), Err(ProfileError::Unknown(_))));
        for (name, value) in [
            ("cpu", "x86-64-v9"),
            ("memory-guard", "-1"),
            ("memory-guard", "1"),
            ("memory-reservation", "99999999999999"),
        ] {
            assert_eq!(with(name, value), Err(ProfileError::Value(name.to_owned().leak())));
        }
        assert!(EngineProfile::read(&BTreeMap::new()).is_err());
    }

    #[test]
    fn the_version_of_wasmtime_is_the_one_that_is_built() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
        let entry = format!("name = \"wasmtime\"\nversion = \"{WASMTIME}\"\n");
        assert!(
            lock.contains(&entry),
            "WASMTIME in profile.rs is not the version in Cargo.lock"
        );
    }

    /// FNV-1a: the same in every process and release of Rust.
    struct Fnv(u64);

    impl Hasher for Fnv {
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        fn finish(&self) -> u64 {
            self.0
        }
    }

    #[cfg(all(feature = "compiler", target_arch = "x86_64", target_os = "linux"))]
    #[test]
    fn a_change_of_the_settings_raises_their_number() {
        let profile = EngineProfile {
            target: "x86_64-unknown-linux-gnu".into(),
            ..EngineProfile::of_this_machine().with_cpu(CpuLevel::Baseline)
        };
        let hash = |wasi| {
            let engine = wasmtime::Engine::new(&profile.config(wasi).unwrap()).unwrap();
            let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        let known = ("48.0.8", "1", 0xd797c1f2083a5b1a, 0xecfe9c04e2481dd7);
        assert_eq!(
            (WASMTIME, SETTINGS, hash(Wasi::P2), hash(Wasi::P3)),
            known,
            "what code depends on has changed: raise SETTINGS (or WASMTIME), then write the new hashes here"
        );
    }
}
