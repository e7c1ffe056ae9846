//! Boards in Grafana's form. They need nothing but a Prometheus: no plugin, no picture from elsewhere.

use serde_json::{Value, json};

use super::panels::{Board, Panel};

/// The version of the form, Grafana 10's; newer ones read it too.
const SCHEMA: u32 = 38;
const COLUMNS: u32 = 2;
const WIDTH: u32 = 24 / COLUMNS;
const HEIGHT: u32 = 8;

/// A board as a file.
pub(super) fn render(board: &Board) -> String {
    let panels: Vec<Value> = (0..).zip(&board.panels).map(|(at, one)| panel(at, one)).collect();
    let body = json!({
        "uid": board.uid,
        "title": board.title,
        "description": board.what,
        "tags": ["pilotage"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": true,
        "refresh": "30s",
        "time": { "from": "now-1h", "to": "now" },
        "links": [{ "type": "dashboards", "tags": ["pilotage"], "title": "Pilotage", "asDropdown": true, "includeVars": true, "keepTime": true }],
        "templating": { "list": [
            { "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus" },
            variable("model", "Model", "label_values(pilotage_replicas_up, lane)"),
            variable("tenant", "Tenant", "label_values(pilotage_tenant_requests_total, tenant)"),
        ] },
        "panels": panels,
    });
    // `Value` writes whatever it holds.
    let text = serde_json::to_string_pretty(&body).unwrap_or_default();
    format!("{text}\n")
}

fn variable(name: &str, label: &str, query: &str) -> Value {
    json!({
        "name": name,
        "label": label,
        "type": "query",
        "datasource": source(),
        "query": { "query": query, "refId": name },
        "refresh": 2,
        "sort": 1,
        "multi": true,
        "includeAll": true,
        "allValue": ".*",
        "current": { "selected": true, "text": ["All"], "value": ["$__all"] },
    })
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn panel(at: u32, panel: &Panel) -> Value {
    let targets: Vec<Value> = panel
        .queries
        .iter()
        .zip('A'..='Z')
        .map(|(query, id)| {
            json!({
                "refId": id.to_string(),
                "datasource": source(),
                "expr": query.expr,
                "legendFormat": query.legend,
                "exemplar": query.expr.contains("_bucket"),
            })
        })
        .collect();
    json!({
        "id": at + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.what,
        "datasource": source(),
        "gridPos": { "h": HEIGHT, "w": WIDTH, "x": at % COLUMNS * WIDTH, "y": at / COLUMNS * HEIGHT },
        "fieldConfig": { "defaults": { "unit": panel.unit.id(), "min": 0 }, "overrides": [] },
        "options": { "legend": { "displayMode": "list", "placement": "bottom" }, "tooltip": { "mode": "multi", "sort": "desc" } },
        "targets": targets,
    })
}
