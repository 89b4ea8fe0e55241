//! The clock of the engines. In: engines. Out: their epochs, one more at each tick, until they are gone.

use heddle_capability::TICK;
use wasmtime::Engine;

/// Starts the clock's thread. It ends when both engines are gone.
pub(crate) fn start(engines: [&Engine; 2]) {
    let weak = engines.map(Engine::weak);
    let ticking = move || {
        loop {
            std::thread::sleep(TICK);
            let live = weak.each_ref().map(|engine| engine.upgrade());
            if live.iter().all(Option::is_none) {
                return;
            }
            live.iter().flatten().for_each(Engine::increment_epoch);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("epoch-ticker".into()).spawn(ticking) {
        // Time limits of waiting guests still hold; computing ones are not interrupted.
        tracing::error!(%error, "failed to start the thread that interrupts guests");
    }
}
