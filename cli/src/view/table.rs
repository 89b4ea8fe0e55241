//! Aligned columns. In: rows of cells. Out: text whose lines end where their last cell does.

/// Whether text may be coloured. Colour only helps: the words carry the meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// No escape sequences at all.
    Plain,
    /// ANSI colours.
    Coloured,
}

/// How a cell is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// Well.
    Good,
    /// On its way, or in need of a look.
    Warn,
    /// Not well.
    Bad,
    /// Less important.
    Dim,
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Tone::Plain => None,
            Tone::Good => Some("32"),
            Tone::Warn => Some("33"),
            Tone::Bad => Some("31"),
            Tone::Dim => Some("2"),
        }
    }

    /// The text in this tone.
    pub fn paint(self, text: &str, style: Style) -> String {
        match (style, self.code()) {
            (Style::Coloured, Some(code)) if !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

/// One cell.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with a tone.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self {
            text: text.into(),
            tone: Tone::Plain,
        }
    }
}

/// Rows under headings.
#[derive(Debug, Clone)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

/// Between two columns.
const GAP: &str = "  ";

impl Table {
    /// An empty table.
    pub fn new(headings: &[&str]) -> Self {
        Self {
            headings: headings.iter().map(|h| (*h).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text. A column in which no row says anything is left out. Other empty cells print as `-`, but for
    /// the last column, where they print as nothing.
    pub fn render(&self, style: Style) -> String {
        let width = |text: &str| text.chars().count();
        let says = |c: &usize| {
            self.rows
                .iter()
                .any(|row| row.get(*c).is_some_and(|cell| !cell.text.is_empty()))
        };
        let columns: Vec<usize> = (0..self.headings.len()).filter(|c| *c == 0 || says(c)).collect();
        let widths: Vec<usize> = columns
            .iter()
            .map(|&c| {
                let cells = self
                    .rows
                    .iter()
                    .filter_map(|row| row.get(c))
                    .map(|cell| width(&cell.text));
                cells.chain([width(&self.headings[c])]).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        let headings: Vec<Cell> = self
            .headings
            .iter()
            .map(|h| Cell::toned(h.clone(), Tone::Dim))
            .collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for (at, (&c, column_width)) in columns.iter().zip(&widths).enumerate() {
                let last = at + 1 == columns.len();
                let cell = row.get(c).cloned().unwrap_or_default();
                let shown = if cell.text.is_empty() && !last {
                    "-".to_owned()
                } else {
                    cell.text
                };
                line.push_str(&cell.tone.paint(&shown, style));
                if !last {
                    line.push_str(&" ".repeat(column_width - width(&shown).min(*column_width)));
                    line.push_str(GAP);
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new(&["NAME", "READY", "WHY"]);
        table.row(["web".into(), "3/4".into(), "×1 missing".into()]);
        table.row(["a-long-name".into(), "".into(), "".into()]);
        let text = table.render(Style::Plain);
        assert_eq!(
            text,
            "NAME         READY  WHY\nweb          3/4    ×1 missing\na-long-name  -\n"
        );
    }

    #[test]
    fn a_column_in_which_nothing_is_said_is_left_out() {
        let mut table = Table::new(&["NAME", "URL", "READY"]);
        table.row(["web".into(), "".into(), "1/1".into()]);
        assert_eq!(table.render(Style::Plain), "NAME  READY\nweb   1/1\n");
    }

    #[test]
    fn colour_does_not_shift_columns() {
        let mut table = Table::new(&["A", "B"]);
        table.row([Cell::toned("ready", Tone::Good), "x".into()]);
        let coloured = table.render(Style::Coloured);
        assert!(coloured.contains("\x1b[32mready\x1b[0m  x"), "{coloured:?}");
    }
}
