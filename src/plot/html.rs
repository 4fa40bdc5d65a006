//! Pieces of a self-contained page: what [`Report`](super::Report) consists of, for pages of your own.
//!
//! Text is escaped by the functions that it is passed to. Only what is called `html` or `svg` is inserted as it is.
//!
//! # Examples
//! ```
//! use bptt::plot::html;
//!
//! let table = html::table("Errors", &["model", "RMSE"], &[vec!["LSTM".into(), "0.65".into()]]);
//! let page = html::page("Forecasts", "", &format!("<main>\n{}{table}</main>\n", html::element("h1", "Forecasts")));
//! assert!(page.starts_with("<!doctype html>") && html::unbalanced(&page).is_none());
//! ```

use crate::metrics::ConfusionMatrix;

/// The style sheet of pages: readable in light and dark, on wide and narrow screens. It also gives the charts their colours.
pub const STYLE: &str = include_str!("style.css");

/// A whole page that needs no other file, with [`STYLE`] and a `style` of its own after it.
pub fn page(title: &str, style: &str, html: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{STYLE}{style}</style>\n</head>\n<body>\n{html}</body>\n</html>\n",
        escape(title)
    )
}

/// Text for an element or an attribute.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c => escaped.push(c),
        }
    }
    escaped
}

/// An element with text in it.
pub fn element(tag: &str, text: &str) -> String {
    format!("<{tag}>{}</{tag}>\n", escape(text))
}

/// A table in a box that scrolls by itself. The first cell of each row is its heading.
pub fn table(caption: &str, heads: &[&str], rows: &[Vec<String>]) -> String {
    let heads: String = heads.iter().map(|head| format!("<th scope=\"col\">{}</th>", escape(head))).collect();
    let row = |cells: &Vec<String>| {
        let mut cells = cells.iter().map(|cell| escape(cell));
        let first = cells.next().unwrap_or_default();
        let others: String = cells.map(|cell| format!("<td>{cell}</td>")).collect();
        format!("<tr><th scope=\"row\">{first}</th>{others}</tr>\n")
    };
    scrolling(
        caption,
        &format!(
            "<table>\n<caption>{}</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{}</tbody>\n</table>\n",
            escape(caption),
            rows.iter().map(row).collect::<String>()
        ),
    )
}

/// A confusion matrix as a heat map: counts, shaded by their share of the row. Classes without names have their indices.
pub fn confusion(caption: &str, matrix: &ConfusionMatrix) -> String {
    let names: Vec<_> = (0..matrix.classes()).map(|class| escape(&matrix.name(class))).collect();
    let heads: String =
        names.iter().map(|name| format!("<th scope=\"col\"><span>{name}</span></th>")).collect();
    let row = |(name, counts): (&String, Vec<u64>)| {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let cell = |&count: &u64| {
            // The square root shows small shares too.
            let shade = (60.0 * (count as f64 / total).sqrt()).round();
            format!("<td style=\"--s:{shade}%\">{count}</td>")
        };
        let cells: String = counts.iter().map(cell).collect();
        format!("<tr><th scope=\"row\">{name}</th>{cells}</tr>\n")
    };
    let body: String = names.iter().zip(matrix.rows()).map(row).collect();
    scrolling(
        caption,
        &format!(
            "<table class=\"confusion\">\n<caption>{}</caption>\n<thead><tr><th scope=\"col\">true ↓ predicted →</th>{heads}</tr></thead>\n\
             <tbody>\n{body}</tbody>\n</table>\n",
            escape(caption)
        ),
    )
}

/// A box that scrolls by itself, and that the keyboard can scroll too.
pub fn scrolling(label: &str, html: &str) -> String {
    format!(
        "<div class=\"box\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">\n{html}</div>\n",
        escape(label)
    )
}

/// An SVG with a description for those who do not see it.
pub fn figure(svg: &str, description: &str) -> String {
    let named = format!("<svg role=\"img\" aria-label=\"{}\" ", escape(description));
    format!("<figure>\n{}</figure>\n", svg.replacen("<svg ", &named, 1))
}

/// What is wrong with the tags of `html`: one left open, or closed that is not open. For the tests of a page.
pub fn unbalanced(html: &str) -> Option<String> {
    const VOID: [&str; 4] = ["meta", "br", "link", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    for tag in html.split('<').skip(1) {
        let Some((tag, _)) = tag.split_once('>') else { return Some(format!("<{tag} has no end")) };
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap_or_default();
        if tag.starts_with('/') {
            if open.pop() != Some(name) {
                return Some(format!("</{name}> closes nothing"));
            }
        } else if !tag.ends_with('/') && !VOID.contains(&name.to_lowercase().as_str()) {
            open.push(name);
        }
    }
    open.pop().map(|name| format!("<{name}> is left open"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_everywhere() {
        let evil = "<b>\"&'";
        let good = "&lt;b&gt;&quot;&amp;&#39;";
        let all = [
            element("p", evil),
            table(evil, &[evil], &[vec![evil.into(), evil.into()]]),
            confusion(evil, &ConfusionMatrix::from_rows(&[[3]]).unwrap().with_names([evil]).unwrap()),
            figure("<svg width=\"1\"></svg>", evil),
            scrolling(evil, ""),
            page(evil, "", ""),
        ];
        for html in all {
            assert!(!html.contains("<b>") && html.contains(good), "{html}");
            assert_eq!(unbalanced(&html), None);
        }
    }

    #[test]
    fn tags_are_counted() {
        assert_eq!(unbalanced("<p><br>a<i/></p>"), None);
        assert_eq!(unbalanced("<p><b></p>").as_deref(), Some("</p> closes nothing"));
        assert_eq!(unbalanced("<p><b></b>").as_deref(), Some("<p> is left open"));
        assert!(unbalanced("<p").is_some());
    }
}
