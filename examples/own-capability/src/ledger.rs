//! A ledger in the agent's memory: `acme:ledger/book@1.0.0`.
//!
//! In: what a platform lends as `custom` with the feature `acme-ledger@1.0.0`; its setting `most` is what an account may
//! hold. Out: one function, linked for each import. Each namespace has a book of its own, unless the offer is `shared`.

use heddle_capability::{Capability, CapabilityError, Ctx, Import, Lending, Lent};
use heddle_protocol::host_spec::{CapabilityOffer, Feature};
use heddle_protocol::id::CapabilityName;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

const FEATURE: &str = "acme-ledger@1.0.0";
const BOOK: &str = "acme:ledger/book@1.0.0";
/// Accounts of one capability. Guests choose names, so there is an end to them.
const ACCOUNTS_MAX: usize = 10_000;
/// Longest name of an account.
const NAME_BYTES_MAX: usize = 256;

/// Whose account, and its name.
type Account = (String, String);
type Books = Arc<Mutex<BTreeMap<Account, i64>>>;

/// Lends ledgers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    books: Mutex<BTreeMap<CapabilityName, Books>>,
}

/// A ledger under one name.
struct Lender {
    books: Books,
    most: i64,
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held, and a balance is whole at every moment.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Capability for Ledger {
    fn feature(&self) -> Feature {
        Feature::custom(FEATURE)
    }

    fn configure(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        _lending: &Lending,
    ) -> Result<Arc<dyn Lent>, CapabilityError> {
        let CapabilityOffer::Custom { settings, .. } = offer else {
            return Err(CapabilityError::OtherKind {
                name: name.clone(),
                feature: self.feature(),
            });
        };
        let most = settings.get("most").map_or(Ok(i64::MAX), |text| text.parse());
        let most = most.map_err(|_| CapabilityError::Offer {
            name: name.clone(),
            why: "setting `most` is no whole number; write one, such as \"1000\"".to_owned(),
        })?;
        // A changed offer keeps what is in the book.
        let books = Arc::clone(locked(&self.books).entry(name.clone()).or_default());
        Ok(Arc::new(Lender { books, most }))
    }

    fn forget(&self, name: &CapabilityName) {
        locked(&self.books).remove(name);
    }
}

impl Lent for Lender {
    fn prepare(&self, import: &Import<'_>, linker: &mut LinkerInstance<'_, Ctx>) -> Result<(), CapabilityError> {
        if import.interface != BOOK {
            return Err(CapabilityError::NotMet {
                interface: import.interface.to_owned(),
                meets: vec![BOOK.to_owned()],
            });
        }
        let (books, most, scope) = (Arc::clone(&self.books), self.most, import.scope.to_owned());
        linker
            .func_wrap(
                "record",
                move |_: StoreContextMut<'_, Ctx>, (account, amount): (String, i64)| {
                    Ok((record(&books, most, (scope.clone(), account), amount),))
                },
            )
            .map_err(CapabilityError::link(import))
    }
}

fn record(books: &Books, most: i64, account: Account, amount: i64) -> Result<i64, String> {
    let name_bytes = account.1.len();
    if name_bytes > NAME_BYTES_MAX {
        return Err(format!(
            "failed to record: a name of {name_bytes} bytes is longer than {NAME_BYTES_MAX}"
        ));
    }
    let mut books = locked(books);
    let full = books.len() >= ACCOUNTS_MAX;
    let entry = books.entry(account);
    if full && matches!(entry, Entry::Vacant(_)) {
        return Err(format!("failed to record: there are {ACCOUNTS_MAX} accounts already"));
    }
    let balance = match &entry {
        Entry::Occupied(held) => *held.get(),
        Entry::Vacant(_) => 0,
    };
    match balance.checked_add(amount).filter(|sum| *sum <= most) {
        Some(sum) => {
            entry.insert_entry(sum);
            Ok(sum)
        }
        None => Err(format!(
            "failed to record: the account may hold {most}, and holds {balance}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Account {
        ("shop".to_owned(), name.to_owned())
    }

    #[test]
    fn an_account_holds_no_more_than_it_may_and_a_refusal_changes_nothing() {
        let books = Books::default();
        assert_eq!(record(&books, 10, account("a"), 7), Ok(7));
        assert!(record(&books, 10, account("a"), 4).is_err());
        assert!(record(&books, 10, account("a"), i64::MIN).is_ok());
        assert!(record(&books, 10, account("a"), i64::MIN).is_err());
        assert_eq!(record(&books, 10, account("b"), 10), Ok(10));
    }

    #[test]
    fn there_is_an_end_to_the_accounts_and_to_their_names() {
        let books = Books::default();
        for n in 0..ACCOUNTS_MAX {
            record(&books, 10, account(&n.to_string()), 1).unwrap();
        }
        assert!(record(&books, 10, account("one-more"), 1).is_err());
        assert_eq!(record(&books, 10, account("0"), 1), Ok(2));
        assert!(record(&Books::default(), 10, account(&"x".repeat(NAME_BYTES_MAX + 1)), 1).is_err());
    }
}
