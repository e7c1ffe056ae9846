//! What the choice of a model depended on: which rules hold, and what each model of the route lacks.

use super::{Asked, Choice, Live, NoRoute, Router};
use crate::traffic::fit::Lack;
use crate::traffic::name::Name;

/// A choice, and what it was made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// The route's rules in their order, and whether each holds.
    pub rules: Vec<(Name, bool)>,
    /// The models that the route may lead to, each once, in the order in which they are looked at.
    pub models: Vec<Offer>,
    /// What comes of it.
    pub choice: Result<Choice, NoRoute>,
}

/// A model that a route may lead to.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Its name.
    pub model: Name,
    /// Whether it has a replica that takes work.
    pub open: bool,
    /// What it lacks for the request, if anything.
    pub lack: Option<Lack>,
}

impl Router {
    /// Where a request goes, and why.
    pub fn explain(&self, public: &str, asked: &Asked<'_>, live: &dyn Live) -> Explained {
        let choice = self.choose(public, asked, live);
        let Some(route) = self.route(public) else {
            return Explained { rules: Vec::new(), models: Vec::new(), choice };
        };
        let mut models: Vec<Offer> = Vec::new();
        for model in self.offered(route, asked) {
            if models.iter().all(|offer| offer.model != model.name) {
                let (open, lack) =
                    (live.is_open(model.lane), model.capabilities.lack(&asked.needs));
                models.push(Offer { model: model.name.clone(), open, lack });
            }
        }
        let rules = route.rules.iter().map(|rule| (rule.name.clone(), rule.when.holds(asked)));
        Explained { rules: rules.collect(), models, choice }
    }
}
