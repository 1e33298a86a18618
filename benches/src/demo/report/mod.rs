//! The report: one HTML file that needs nothing else, neither a network nor a font nor a script.
//!
//! `lines` draws figures over time and `bars` compares routes, both as inline SVG whose colours come from `style.css`, so that the page
//! follows the reader's light or dark mode; `page` puts it together.

mod bars;
mod lines;
mod page;

pub(super) use page::render;

/// Text inside HTML and its attributes.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
