//! Snapshots of text, kept by `insta`. CONTRIBUTING.md says how to review and accept one.

use super::in_package;

/// Compares `text` with the snapshot `folder`/`name`.snap; the folder is below the package's root.
///
/// The file holds neither the expression nor a path of this machine, so that the same text gives the same file anywhere.
pub(crate) fn compare(folder: &str, name: &str, text: &str) {
    // Insta overlooks these, and then two texts would pass for one.
    assert!(!text.starts_with('\n') && !text.contains('\r'), "{name}: {text:?}");
    assert_eq!(text, format!("{}\n", text.trim_end()), "{name} ends with exactly one end of a line");

    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(in_package(folder));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
