"""What goes along with a prompt: images and text files, checked by what they are."""
