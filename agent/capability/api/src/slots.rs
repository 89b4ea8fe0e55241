//! A place in each store where a capability may keep values of its own type. In: a type. Out: its one value.

use std::any::{Any, TypeId};
use std::collections::HashMap;

/// At most one value per type, for as long as the instance lives. Allocates nothing until something is put in.
#[derive(Default)]
pub struct Slots(Option<HashMap<TypeId, Box<dyn Any + Send>>>);

impl Slots {
    /// The value of this type, made if it is not there yet.
    pub fn get_or_default<T: Any + Send + Default>(&mut self) -> &mut T {
        let map = self.0.get_or_insert_default();
        let slot = map.entry(TypeId::of::<T>()).or_insert_with(|| Box::<T>::default());
        match slot.downcast_mut::<T>() {
            Some(value) => value,
            None => unreachable!("a slot holds a value of the type that is its key"),
        }
    }

    /// The value of this type, if there is one.
    pub fn get<T: Any + Send>(&self) -> Option<&T> {
        self.0.as_ref()?.get(&TypeId::of::<T>())?.downcast_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_a_slot_of_its_own() {
        let mut slots = Slots::default();
        assert!(slots.get::<u32>().is_none());
        *slots.get_or_default::<u32>() += 7;
        slots.get_or_default::<String>().push('x');
        assert_eq!(slots.get::<u32>(), Some(&7));
        assert_eq!(slots.get::<String>().map(String::as_str), Some("x"));
    }
}
