//! The description of the API for programs, as OpenAPI 3.1.

use axum::http::header;
use axum::response::IntoResponse;

/// Written by hand beside `docs/reference/http-api.md`; the test below holds it against the routes.
const DOCUMENT: &str = include_str!("openapi.json");

pub(super) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// The routes in the text of the module that makes them, as `get /v1/list`.
    fn routes() -> BTreeSet<String> {
        let text = include_str!("mod.rs");
        let (_, after) = text.split_once("let files = ").unwrap();
        let (of_files, _) = after.split_once(';').unwrap();
        let mut routes = BTreeSet::new();
        for route in text.split(".route(\"").skip(1) {
            let (path, rest) = route.split_once('"').unwrap();
            let (answers, _) = rest.split_once('\n').unwrap();
            let answers = if answers.contains(", files)") { of_files } else { answers };
            for method in ["get", "head", "put", "post", "delete"] {
                if answers.contains(&format!("{method}(")) {
                    routes.insert(format!("{method} {}", path.replace("{*", "{")));
                }
            }
        }
        routes
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut described = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                described.insert(format!("{method} {path}"));
                let named = operation["parameters"].as_array().into_iter().flatten();
                let in_path = named.filter(|parameter| parameter["in"] == "path");
                assert_eq!(in_path.count(), path.matches('{').count(), "{method} {path}");
                assert!(operation["responses"].is_object(), "{method} {path}");
            }
        }
        assert_eq!(described, routes());
        assert!(described.len() > 40);
    }

    #[test]
    fn what_it_refers_to_is_there() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        for reference in DOCUMENT.split("\"$ref\": \"#").skip(1) {
            let (pointer, _) = reference.split_once('"').unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
