//! What an hour of each replica costs: what the environment says of its Model, or else its Fleet or manifest, or else
//! the price book. The book is read again while the gateway runs: what it says by then holds from then on, and what is
//! wrong with it leaves the last one that was right.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use pilotage_plan::manifest::{self, MANIFEST_BYTES_MAX};
use pilotage_plan::prices::PriceBook;
use pilotage_shell::env::{self, Var};

use super::load::Stands;
use crate::exit::Wrong;

/// Prices of replicas.
#[derive(Default)]
pub(super) struct Prices {
    /// Millionths an hour of one replica, by Model.
    by_model: BTreeMap<String, u64>,
    book: Option<Kept>,
}

/// The book's file.
struct Kept {
    path: PathBuf,
    book: RwLock<PriceBook>,
    /// What was wrong with it when it was last read.
    trouble: RwLock<Option<String>>,
}

impl Prices {
    /// What the environment says.
    ///
    /// # Errors
    /// It cannot be read, or the book it names cannot.
    pub(super) fn from_env() -> anyhow::Result<Self> {
        let by_model = by_model(&env::get(Var::ReplicaPrices).unwrap_or_default())?;
        let path = env::get(Var::PriceBook).filter(|path| !path.is_empty());
        let book = path.map(|path| Kept::open(path.into())).transpose()?;
        Ok(Self { by_model, book })
    }

    /// The currency, where the book says it; empty where nobody does.
    pub(super) fn currency(&self) -> String {
        self.book.as_ref().map(|kept| kept.book.read().currency().to_owned()).unwrap_or_default()
    }

    /// What an hour of a replica costs at that second since 1970, in millionths; zero where nobody says.
    pub(super) fn micros_per_hour(&self, now_s: u64, stands: &Stands<'_>) -> u64 {
        let told = self.by_model.get(stands.lane).copied().or(stands.micros_per_hour);
        let booked = || {
            let book = self.book.as_ref()?.book.read();
            book.micros_per_hour(now_s, stands.hardware, stands.accelerators)
        };
        told.or_else(booked).unwrap_or(0)
    }

    /// Reads the book again.
    pub(super) fn read_again(&self) {
        if let Some(kept) = &self.book {
            kept.read_again();
        }
    }
}

impl Kept {
    fn open(path: PathBuf) -> anyhow::Result<Self> {
        let book = read(&path).map_err(|text| {
            Wrong::new(format!("PILOTAGE_PRICE_BOOK cannot be used: {text}")).hint(
                "it names a YAML file with `currency` and `prices`; docs/guide/usage.md shows one",
            )
        })?;
        Ok(Self { path, book: RwLock::new(book), trouble: RwLock::default() })
    }

    fn read_again(&self) {
        let found = read(&self.path).and_then(|book| self.keeps_currency(&book).map(|()| book));
        let trouble = match found {
            Ok(book) => {
                if *self.book.read() != book {
                    tracing::info!(path = %self.path.display(), "prices read again");
                    *self.book.write() = book;
                }
                None
            }
            Err(error) => Some(error),
        };
        let mut last = self.trouble.write();
        if let Some(error) = trouble.as_ref().filter(|error| last.as_ref() != Some(*error)) {
            tracing::error!(error, "the price book cannot be used; prices stay as they are");
        }
        *last = trouble;
    }

    /// Sums of two currencies would be no sums.
    fn keeps_currency(&self, book: &PriceBook) -> Result<(), String> {
        let (own, next) = (self.book.read().currency().to_owned(), book.currency());
        if own == next {
            return Ok(());
        }
        Err(format!("its currency was {own} and is {next} by now; it changes with a restart only"))
    }
}

fn read(path: &Path) -> Result<PriceBook, String> {
    let shown = path.display();
    let file = std::fs::File::open(path).map_err(|error| format!("{shown}: {error}"))?;
    let mut text = String::new();
    let most = MANIFEST_BYTES_MAX as u64 + 1;
    file.take(most).read_to_string(&mut text).map_err(|error| format!("{shown}: {error}"))?;
    PriceBook::parse(&shown.to_string(), &text).map_err(|errors| manifest::join(&errors))
}

/// `MODEL=PRICE,MODEL=PRICE` in millionths.
fn by_model(text: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let one = |part: &str| {
        let (model, price) = part.trim().split_once('=')?;
        let price: f64 = price.trim().parse().ok()?;
        let fits = price.is_finite() && (0.0..1e9).contains(&price);
        fits.then(|| (model.trim().to_owned(), (price * 1e6).round() as u64))
    };
    let parts = text.split(',').filter(|part| !part.trim().is_empty());
    parts.map(one).collect::<Option<_>>().ok_or_else(|| {
        Wrong::new("PILOTAGE_REPLICA_PRICES cannot be read")
            .hint("write what one replica costs an hour as MODEL=PRICE,MODEL=PRICE: chat=2.49,small=0.7")
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn l4(lane: &str, told: Option<u64>) -> Stands<'_> {
        let pod = ("", "", "");
        let (name, hardware) = ("r", "l4");
        Stands { lane, name, hardware, accelerators: 2, micros_per_hour: told, devices: &[], pod }
    }

    #[test]
    fn the_nearest_word_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("book.yaml");
        std::fs::write(&path, "currency: EUR\nprices: [{hardware: l4, perHour: '0.7'}]").unwrap();
        let by_model = by_model("a=1.5").unwrap();
        let prices = Prices { by_model, book: Some(Kept::open(path).unwrap()) };
        assert_eq!(prices.currency(), "EUR");
        let check = |stands: &Stands<'_>, expect: u64| {
            assert_eq!(prices.micros_per_hour(0, stands), expect, "{stands:?}");
        };
        check(&l4("a", Some(9)), 1_500_000);
        check(&l4("b", Some(9)), 9);
        check(&l4("b", None), 1_400_000);
        check(&Stands { hardware: "", ..l4("b", None) }, 0);
    }

    #[test]
    fn a_book_is_read_again_and_a_wrong_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("book.yaml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("currency: EUR\nprices: [{hardware: l4, perHour: '1'}]");
        let book = Some(Kept::open(path.clone()).unwrap());
        let prices = Prices { by_model: BTreeMap::new(), book };
        let check = |text: &str, expect: u64| {
            write(text);
            prices.read_again();
            assert_eq!(prices.micros_per_hour(0, &l4("b", None)), expect, "{text}");
        };
        check("currency: EUR\nprices: [{hardware: l4, perHour: '2'}]", 4_000_000);
        check("currency: EUR\nprices: [{hardware: l4, perHour: two}]", 4_000_000);
        check("currency: USD\nprices: [{hardware: l4, perHour: '3'}]", 4_000_000);
        check("currency: EUR\nprices: [{hardware: l4, perHour: '3'}]", 6_000_000);
        let Err(error) = Kept::open(folder.path().join("none.yaml")) else { panic!("it is there") };
        assert!(error.to_string().contains("none.yaml"), "{error}");
    }

    #[test]
    fn prices_of_models_are_read_or_refused() {
        assert_eq!(
            by_model("a=1.5, b = 0.25").unwrap(),
            [("a".to_owned(), 1_500_000), ("b".to_owned(), 250_000)].into()
        );
        assert!(by_model("").unwrap().is_empty());
        assert!(by_model("a").is_err() && by_model("a=-1").is_err() && by_model("a=x").is_err());
    }
}
