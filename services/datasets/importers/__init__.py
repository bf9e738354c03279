"""What turns a source of images into samples: one module or folder a format."""
