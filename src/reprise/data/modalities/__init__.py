"""The kinds of data: one package each, named as its `kind`. `reprise.data.modality` describes what a package contains."""
