"""PadChest's terms: the tree that its makers publish with it, and what CheXpert calls them.

The tree is that of Bustos et al., Medical Image Analysis 66 (2020), as `tree_term_CUI_counts` lists
it, with the terms for COVID-19 that BIMCV added later. A term may stand in several places; it
counts for every term above it.
"""

from collections.abc import Iterator, Mapping

from api_schemas.findings import Finding

NORMAL, UNCHANGED = "normal", "unchanged"
EXCLUDED = frozenset({"exclude", "suboptimal study"})

_TREE = """
normal
exclude
suboptimal study
unchanged
obesity
chronic changes
calcified densities
  calcified granuloma
  calcified adenopathy
    calcified mediastinal adenopathy
  calcified pleural thickening
  calcified pleural plaques
  heart valve calcified
  calcified fibroadenoma
granuloma
  calcified granuloma
end on vessel
adenopathy
  calcified adenopathy
    calcified mediastinal adenopathy
nodule
  multiple nodules
pseudonodule
  nipple shadow
  end on vessel
abscess
cyst
cavitation
fibrotic band
volume loss
hypoexpansion
  hypoexpansion basal
bullas
pneumothorax
  hydropneumothorax
pneumoperitoneo
pneumomediastinum
subcutaneous emphysema
hyperinflated lung
flattened diaphragm
lung vascular paucity
air trapping
bronchiectasis
infiltrates
  interstitial pattern
    ground glass pattern
    reticular interstitial pattern
    reticulonodular interstitial pattern
    miliary opacities
  alveolar pattern
    consolidation
      air bronchogram
    air bronchogram
bronchovascular markings
air fluid level
increased density
atelectasis
  total atelectasis
  lobar atelectasis
  segmental atelectasis
  laminar atelectasis
  round atelectasis
  atelectasis basal
mediastinal shift
azygos lobe
fissure thickening
  minor fissure thickening
  major fissure thickening
  loculated fissural effusion
pleural thickening
  apical pleural thickening
  calcified pleural thickening
pleural plaques
  calcified pleural plaques
pleural effusion
  loculated pleural effusion
  loculated fissural effusion
  hydropneumothorax
  empyema
  hemothorax
pleural mass
costophrenic angle blunting
vascular redistribution
  central vascular redistribution
hilar enlargement
  adenopathy
  vascular hilar enlargement
    pulmonary artery enlargement
hilar congestion
cardiomegaly
pericardial effusion
kerley lines
dextrocardia
right sided aortic arch
aortic atheromatosis
aortic elongation
  descendent aortic elongation
  ascendent aortic elongation
  aortic button enlargement
  supra aortic elongation
aortic aneurysm
mediastinal enlargement
  superior mediastinal enlargement
    goiter
    supra aortic elongation
  descendent aortic elongation
  ascendent aortic elongation
  aortic aneurysm
  mediastinal mass
  hiatal hernia
tracheal shift
mass
  mediastinal mass
  breast mass
  pleural mass
  pulmonary mass
  soft tissue mass
esophagic dilatation
azygoesophageal recess shift
lipomatosis
  mediastinic lipomatosis
thoracic cage deformation
  scoliosis
  kyphosis
  pectum excavatum
  pectum carinatum
  cervical rib
vertebral degenerative changes
  vertebral compression
    vertebral anterior compression
lytic bone lesion
sclerotic bone lesion
  blastic bone lesion
costochondral junction hypertrophy
sternoclavicular junction hypertrophy
axial hyperostosis
osteopenia
osteoporosis
non axial articular degenerative changes
subacromial space narrowing
fracture
  clavicle fracture
  humeral fracture
  vertebral fracture
  rib fracture
    callus rib fracture
gynecomastia
hiatal hernia
chilaiditi sign
hemidiaphragm elevation
diaphragmatic eventration
tracheostomy tube
endotracheal tube
nsg tube
chest drain tube
ventriculoperitoneal drain tube
gastrostomy tube
nephrostomy tube
double j stent
catheter
  central venous catheter
    central venous catheter via subclavian vein
    central venous catheter via jugular vein
    reservoir central venous catheter
    central venous catheter via umbilical vein
electrical device
  dual chamber device
  single chamber device
  pacemaker
  dai
artificial heart valve
  artificial mitral heart valve
  artificial aortic heart valve
surgery
  metal
    osteosynthesis material
    sternotomy
    suture material
  bone cement
  prosthesis
    humeral prosthesis
    mammary prosthesis
    endoprosthesis
      aortic endoprosthesis
  surgery breast
    mastectomy
  surgery neck
  surgery lung
  surgery heart
  surgery humeral
abnormal foreign body
external foreign body
pneumonia
  atypical pneumonia
    viral pneumonia
      covid 19
      covid 19 uncertain
tuberculosis
  tuberculosis sequelae
lung metastasis
lymphangitis carcinomatosa
lepidic adenocarcinoma
pulmonary fibrosis
  post radiotherapy changes
  asbestosis signs
emphysema
copd signs
heart insufficiency
respiratory distress
pulmonary hypertension
  pulmonary artery hypertension
  pulmonary venous hypertension
pulmonary edema
bone metastasis
"""

COUNTERPARTS: Mapping[Finding, frozenset[str]] = {
    Finding.PLEURAL_OTHER: frozenset({"pleural thickening", "pleural plaques", "pleural mass"}),
    Finding.FRACTURE: frozenset({"fracture"}),
    Finding.SUPPORT_DEVICES: frozenset(
        {
            *("tracheostomy tube", "endotracheal tube", "nsg tube", "chest drain tube"),
            *("ventriculoperitoneal drain tube", "gastrostomy tube", "nephrostomy tube"),
            *("double j stent", "catheter", "electrical device", "artificial heart valve"),
            "endoprosthesis",
        }
    ),
    Finding.PLEURAL_EFFUSION: frozenset({"pleural effusion"}),
    Finding.PNEUMOTHORAX: frozenset({"pneumothorax"}),
    Finding.ATELECTASIS: frozenset({"atelectasis"}),
    Finding.PNEUMONIA: frozenset({"pneumonia"}),
    Finding.CONSOLIDATION: frozenset({"consolidation"}),
    Finding.EDEMA: frozenset({"pulmonary edema"}),
    Finding.LUNG_LESION: frozenset({"nodule", "pulmonary mass"}),
    Finding.LUNG_OPACITY: frozenset({"infiltrates", "increased density"}),
    Finding.CARDIOMEGALY: frozenset({"cardiomegaly"}),
    Finding.ENLARGED_CARDIOMEDIASTINUM: frozenset({"mediastinal enlargement"}),
}
"""Terms that, with all below them, are a finding."""

WHOLE_TERMS: Mapping[str, Finding] = {"mass": Finding.LUNG_LESION}
"""Terms that are a finding while the terms below them need not be one."""

UNCERTAIN_TERMS: Mapping[str, Finding] = {"covid 19 uncertain": Finding.PNEUMONIA}

POSSIBLE: Mapping[Finding, frozenset[str]] = {
    Finding.FRACTURE: frozenset({"vertebral compression"}),
    Finding.SUPPORT_DEVICES: frozenset({"metal", "prosthesis"}),
    Finding.EDEMA: frozenset({"heart insufficiency", "hilar congestion"}),
    Finding.LUNG_LESION: frozenset(
        {"cavitation", "granuloma", "abscess", "cyst", "lung metastasis", "lepidic adenocarcinoma"}
    ),
}
"""Terms, with all below them, that CheXpert may count for a finding; PadChest's tree does not."""

PARENT_FINDINGS: Mapping[Finding, frozenset[Finding]] = {
    Finding.LUNG_OPACITY: frozenset(
        {Finding.ATELECTASIS, Finding.PNEUMONIA, Finding.EDEMA, Finding.LUNG_LESION}
    ),
    Finding.ENLARGED_CARDIOMEDIASTINUM: frozenset({Finding.CARDIOMEGALY}),
}
"""CheXpert's findings that hold others, where PadChest's tree does not say so."""


def _places() -> Iterator[tuple[str, frozenset[str]]]:
    """Each term of the tree, with itself and the terms above it, once for each of its places."""
    above: list[str] = []
    for line in _TREE.strip().splitlines():
        term = line.strip()
        above[(len(line) - len(term)) // 2 :] = [term]
        yield term, frozenset(above)


def _ancestors() -> dict[str, frozenset[str]]:
    ancestors: dict[str, frozenset[str]] = {}
    for term, above in _places():
        ancestors[term] = ancestors.get(term, frozenset()) | above
    # a term that stands in one place with terms above it has them wherever it is listed
    return {
        term: above.union(*(ancestors[each] for each in above)) for term, above in ancestors.items()
    }


ANCESTORS: Mapping[str, frozenset[str]] = _ancestors()
"""Of every term, in small letters: the term itself and all above it."""
