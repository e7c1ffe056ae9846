//! Questions about usage over HTTP. Whoever adds these routes to a listener keeps strangers out.

mod answer;
mod budgets;
mod cost;
mod params;
mod rows;
mod sums;
mod why;

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use serde_json::json;

use crate::ledger::Ledger;

impl Ledger {
    /// `/usage`, `/usage/rows`, `/usage/why`, `/usage/cost`, `/usage/budgets` and `/ledger`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/usage", get(sums::answer))
            .route("/usage/rows", get(rows::answer))
            .route("/usage/why", get(why::answer))
            .route("/usage/cost", get(cost::answer))
            .route("/usage/budgets", get(budgets::answer))
            .route("/ledger", get(state))
            .with_state(self.clone())
    }
}

async fn state(axum::extract::State(ledger): axum::extract::State<Ledger>) -> Response {
    answer::json(&json!(ledger.state()))
}
