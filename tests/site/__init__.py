"""The pages of the site, made from the Markdown files of the repository; and what is checked of the site itself."""
