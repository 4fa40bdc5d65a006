//! A sheet of training images, each with its class, its number and a score.

use std::fmt::Write;

use bptt::data::{FashionMnist, Images};
use bptt::plot::html::{escape, figure, scrolling};

const COLUMNS: usize = 10;
/// The width and height of an image's place, of which the text below it takes the last 28.
const PLACE: (usize, usize) = (88, 100);
/// Units of the sheet to a pixel.
const SCALE: f64 = 2.5;
const GREYS: usize = 8;

/// The images in rows of ten, with a description for those who do not see them.
pub fn sheet(title: &str, images: &Images<f32>, scores: &[(u32, f64)]) -> String {
    let digits = if scores.iter().all(|(_, score)| score.fract() == 0.0) { 0 } else { 2 };
    let (width, height) = (COLUMNS * PLACE.0, 24 + scores.len().div_ceil(COLUMNS) * PLACE.1);
    let mut svg = format!("<svg viewBox=\"0 0 {width} {height}\" xmlns=\"http://www.w3.org/2000/svg\">\n");
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "<text class=\"title\" x=\"4\" y=\"15\">{}</text>", escape(title));
    let mut description = format!("{title}:");
    for (place, &(index, score)) in scores.iter().enumerate() {
        let (x, y) = ((place % COLUMNS) * PLACE.0, 24 + (place / COLUMNS) * PLACE.1);
        let class = FashionMnist::CLASSES[usize::from(images.labels()[index as usize])];
        let middle = x + PLACE.0 / 2;
        let left = x as f64 + (PLACE.0 as f64 - 28.0 * SCALE) / 2.0;
        let _ = writeln!(
            svg,
            "<g transform=\"translate({left} {y}) scale({SCALE})\">{}</g>",
            pixels(images, index)
        );
        let _ = writeln!(svg, "<text x=\"{middle}\" y=\"{}\">{}</text>", y + 82, escape(class));
        let _ = writeln!(svg, "<text x=\"{middle}\" y=\"{}\">{index}: {score:.digits$}</text>", y + 94);
        let _ = write!(description, " {class}, image {index}, {score:.digits$};");
    }
    let figure = figure(&(svg + "</svg>\n"), description.trim_end_matches(';'));
    format!("<div class=\"sheet\">\n{}</div>\n", scrolling(title, &figure))
}

/// An image of 28 x 28 on black, each of its few greys as one path of runs.
fn pixels(images: &Images<f32>, index: u32) -> String {
    let image = images.image(index as usize);
    let mut paths = vec![String::new(); GREYS];
    for (y, row) in image.rows().into_iter().enumerate() {
        let greys: Vec<usize> = row.iter().map(|&value| usize::from(value) * GREYS / 256).collect();
        let mut x = 0;
        for run in greys.chunk_by(|a, b| a == b) {
            let _ = write!(paths[run[0]], "M{x} {y}h{}v1h-{0}z", run.len());
            x += run.len();
        }
    }
    let mut svg = String::from("<path d=\"M0 0h28v28h-28z\"/>");
    for (grey, path) in paths.iter().enumerate().skip(1).filter(|(_, path)| !path.is_empty()) {
        let value = grey * 255 / (GREYS - 1);
        let _ = write!(svg, "<path fill=\"#{value:02x}{value:02x}{value:02x}\" d=\"{path}\"/>");
    }
    svg
}

#[cfg(test)]
mod tests {
    use bptt::plot::html::unbalanced;
    use ndarray::Array3;

    use super::*;

    #[test]
    fn all_pixels_are_drawn_once() {
        let image = Array3::from_shape_fn(
            (1, 28, 28),
            |(_, row, column)| if row == 3 { column as u8 * 9 } else { 0 },
        );
        let images = Images::new(image, vec![9], FashionMnist::CLASSES).unwrap();
        let svg = pixels(&images, 0);
        // Greys of 32 levels each: values 0, 9, 18 and 27 are black, 243 and less end in the eighth.
        assert!(svg.contains("<path fill=\"#242424\" d=\"M4 3h4v1h-4z\"/>"), "{svg}");
        assert_eq!(svg.matches("<path").count(), GREYS);

        let html = sheet("Hard <ones>", &images, &[(0, 1.25)]);
        assert_eq!(unbalanced(&html), None);
        assert!(html.contains("aria-label=\"Hard &lt;ones&gt;: Ankle boots, image 0, 1.25\""), "{html}");
        assert!(html.contains(">0: 1.25</text>"));
    }
}
