pub mod tree_text;
