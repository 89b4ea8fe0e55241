//! Deliberate bugs, for finding out whether the simulator would notice them.
//!
//! In: the name of a bug at the place where it would be. Out: whether it is to be there now. Without the feature `mutants`,
//! which only the simulator sets, the answer is a constant no, and the compiler leaves nothing of it.

/// Whether a deliberate bug is to be there. Only for this thread, and only if [`choose`] named it.
#[cfg(feature = "mutants")]
pub fn mutant(name: &'static str) -> bool {
    imp::CHOSEN.with(|chosen| chosen.borrow().as_deref() == Some(name))
}

/// Whether a deliberate bug is to be there: never.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn mutant(_name: &'static str) -> bool {
    false
}

/// Chooses the bug that this thread's code has from now on; none for none.
#[cfg(feature = "mutants")]
pub fn choose(name: Option<&str>) {
    imp::CHOSEN.with(|chosen| *chosen.borrow_mut() = name.map(str::to_owned));
}

#[cfg(feature = "mutants")]
mod imp {
    use std::cell::RefCell;

    thread_local! {
        pub(super) static CHOSEN: RefCell<Option<String>> = const { RefCell::new(None) };
    }
}
