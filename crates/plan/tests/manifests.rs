//! Each manifest in `tests/cases` gives the plan, or the messages, that its snapshot shows.
//!
//! A case holds several files where lines `#### NAME` divide it. The world is always the same.

use std::fs;
use std::path::Path;

use pilotage_plan::manifest::{self, MANIFEST_BYTES_MAX, Problem};
use pilotage_plan::{World, parse, parse_all, plan};

/// A machine with four cores and eight gigabytes.
fn world() -> World {
    World { memory_bytes: Some(8_000_000_000), ..World::with_cores(4) }
}

/// The files of a case: name and text.
fn split(text: &str) -> Vec<(&str, &str)> {
    let mut parts = text.split("#### ");
    let first = parts.next().map(|text| ("case.yaml", text));
    first.into_iter().chain(parts.filter_map(|part| part.split_once('\n'))).collect()
}

fn outcome(text: &str) -> String {
    match parse_all(split(text)) {
        Err(errors) => manifest::join(&errors),
        Ok(resources) => match plan(&resources, &world()) {
            Err(error) => format!("no plan: {error}"),
            Ok(plan) => plan.to_string(),
        },
    }
}

#[test]
fn cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut count = 0;
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(&folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|ext| ext == "yaml")) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(path).unwrap();
        settings.bind(|| insta::assert_snapshot!(name, outcome(&text)));
        count += 1;
    }
    assert!(count >= 20, "only {count} cases were found");
}

/// The examples and every manifest that the guide shows are as right as they look.
#[test]
fn examples_and_guides_have_plans() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut count = 0;
    for example in fs::read_dir(root.join("examples")).unwrap() {
        let files = fs::read_dir(example.unwrap().path()).unwrap().map(|file| file.unwrap().path());
        let texts: Vec<_> = files
            .map(|file| (file.display().to_string(), fs::read_to_string(&file).unwrap()))
            .collect();
        let named = texts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let resources =
            parse_all(named).unwrap_or_else(|errors| panic!("{}", manifest::join(&errors)));
        plan(&resources, &world()).unwrap();
        count += 1;
    }
    for page in fs::read_dir(root.join("docs/guide")).unwrap() {
        let page = page.unwrap().path();
        // Its pictures lie beside it.
        if page.is_dir() {
            continue;
        }
        let text = fs::read_to_string(&page).unwrap();
        let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        for block in blocks.filter(|block| block.starts_with("apiVersion: pilotage.dev")) {
            // The guide leaves out what only its reader has.
            let block = block.replace('…', &"a".repeat(64));
            let parsed = parse(&page.display().to_string(), &block);
            parsed.unwrap_or_else(|errors| panic!("{}", manifest::join(&errors)));
            count += 1;
        }
    }
    assert!(count >= 3, "only {count} were found");
}

#[test]
fn a_manifest_over_the_limit_is_not_read() {
    let text = "#".repeat(MANIFEST_BYTES_MAX + 1);
    let errors = parse("big.yaml", &text).unwrap_err();
    assert_eq!(errors[0].problem, Problem::TooLarge { bytes: MANIFEST_BYTES_MAX + 1 });
    assert!(errors[0].to_string().starts_with("big.yaml: the manifest has 1048577 bytes"));
}

#[test]
fn the_number_of_mistakes_reported_is_bounded() {
    let text = "kind: Nope\n---\n".repeat(200);
    let errors = parse("many.yaml", &text).unwrap_err();
    assert_eq!(errors.len(), manifest::ERRORS_MAX);
}

#[test]
fn the_number_of_documents_is_bounded() {
    let text = "kind: Nope\n---\n".repeat(manifest::DOCUMENTS_MAX + 1);
    let errors = parse("many.yaml", &text).unwrap_err();
    assert!(matches!(errors[0].problem, Problem::TooComplex(_)), "{}", errors[0]);
}
