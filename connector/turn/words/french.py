"""French: when a caller's words are a whole turn. An apostrophe ends a word here: l' adresse, j' ai."""

from __future__ import annotations

from connector.turn.words.table import Words, counted, listed, patterns, phrases, words

_AUXILIARIES = words(
    """suis es est sommes êtes sont étais était étaient serait sera ai as a avons avez ont avais avait avaient aurais
    aurait peux peut pouvez pouvons peuvent pourrais pourrait pourriez pourrions veux veut voulez voulons veulent
    voudrais voudrait voudriez vais va allez allons vont dois doit devez devons doivent faut faudrait fait faites"""
)
_ARTICLES = words(
    """le la les l' un une des du de d' au aux mon ma mes ton ta tes son sa ses notre nos votre vos leur leurs ce cet
    cette ces quel quelle quels quelles chaque"""
)
_UNITS = tuple(listed("zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize"))
_NUMBERS = (
    counted(
        (*_UNITS, "dix sept", "dix huit", "dix neuf"),
        {"vingt": 20, "trente": 30, "quarante": 40, "cinquante": 50, "soixante": 60, "quatre vingt": 80},
        " ",
    )
    | {
        f"{ten} et un": f"{digit}1"
        for ten, digit in zip(listed("vingt trente quarante cinquante"), "2345", strict=True)
    }
    | {f"soixante {word}": str(60 + number) for number, word in enumerate(_UNITS) if number >= 10}
    | {f"quatre vingt {word}": str(80 + number) for number, word in enumerate(_UNITS) if number >= 10}
    | {f"soixante dix {word}": str(70 + number) for number, word in enumerate(_UNITS) if 7 <= number <= 9}
    | {f"quatre vingt dix {word}": str(90 + number) for number, word in enumerate(_UNITS) if 7 <= number <= 9}
    | {"soixante et onze": "71", "soixante et un": "61", "quatre vingts": "80", "septante": "70", "nonante": "90"}
    | {f"double {word}": 2 * str(number) for number, word in enumerate(_UNITS[:10])}
)

FRENCH = Words(
    elides=True,
    fillers=words("euh heu hum hm hmm ben bah beh em"),
    backchannels=phrases(
        """
        mm hmm
        mhm
        hm
        hmm
        oui
        ouais
        d' accord
        ok
        okay
        ah
        ah bon
        ah oui
        ah d' accord
        bien sûr
        exactement
        tout à fait
        je vois
        je comprends
        très bien
        bien
        voilà
        entendu
        c' est ça
        """
    ),
    lead_ins=phrases(
        """
        en fait
        à vrai dire
        par exemple
        est ce que
        est ce qu'
        """
    )
    | words("alors donc et mais enfin bon ben bah ah oh euh parce ou puis"),
    answers=phrases(
        """
        oui
        ouais
        non
        d' accord
        ok
        okay
        bien sûr
        exactement
        exact
        parfait
        tout à fait
        absolument
        très bien
        voilà
        merci
        merci beaucoup
        merci bien
        je vous remercie
        s' il vous plaît
        s' il te plaît
        au revoir
        bonne journée
        bonne soirée
        à bientôt
        à bientôt
        c' est ça
        c' est bon
        pardon
        excusez moi
        mhm
        volontiers
        avec plaisir
        """
    ),
    wholes=phrases(
        """
        si
        quoi
        comment
        qui
        quand
        où
        pourquoi
        combien
        lequel
        laquelle
        c' est tout
        ce sera tout
        ça sera tout
        moi aussi
        moi non plus
        rien
        rien d' autre
        aucun
        aucune idée
        les deux
        pas du tout
        pas encore
        je sais
        je ne sais pas
        je sais pas
        pas maintenant
        """
    ),
    announcements=phrases(
        """
        bonjour
        bonsoir
        salut
        allô
        allo
        bonjour madame
        bonjour monsieur
        un instant
        un moment
        une seconde
        attendez
        j' ai besoin d' aide
        vous pouvez m' aider
        pouvez vous m' aider
        """
    ),
    courtesies=phrases(
        """
        s' il vous plaît
        s' il te plaît
        merci
        merci beaucoup
        madame
        monsieur
        au revoir
        """
    ),
    asides=patterns(
        """
        je crois/pense/suppose
        j' imagine
        """
    ),
    cannot_end=_ARTICLES - words("un une")
    | words(
        """un une et ou mais car donc que qu' qui si comme lorsque quand puisque parce à de d' en dans pour par sur
        sous avec sans chez vers contre entre depuis pendant jusque jusqu' dès selon sauf malgré voici je j' tu il
        ils on ne n' me m' te t' se s' c' ce y très trop plus aussi dont où quel quelle quels quelles lequel
        laquelle afin est es sont suis était étais serait ai as a avons avez ont avait avais peux peut pouvez
        pourrais pourrait pourriez veux veut voulez voudrais voudrait souhaite souhaiterais aimerais vais va allez
        vont dois doit devez faut faudrait combien prochain prochaine auprès près afin lors environ chaque plusieurs
        même"""
    ),
    cannot_end_after=patterns(
        """
        est ce que
        combien coûte/coûtent/font
        n' ai/a/avons/avez pas
        ^ j' habite
        que/si/quand/comme/parce/pour/est/qu' vous/nous/elle/ça/cela/il
        pouvez/pourriez/avez/êtes/voulez/allez/est/peut/puis vous/je/on/il
        ^ vous
        @aux vous/nous
        @aux vous me/m'/nous
        il y a
        y a t il
        à cause/côté/partir/propos
        afin/avant/près/loin/besoin/envie/peur/lieu/cause de
        à quelle heure/adresse/date
        ^ quel/quelle *
        appelle/appelles pour/parce/de
        ^ je m' appelle
        ^ je vous appelle
        c' est
        ^ mon/ma/votre * est
        numéro/code/adresse de
        est le/la
        besoin/envie de
        arrive pas
        n' arrive pas
        la/le/les même/seule/première/dernière/prochaine
        me/vous/lui dire/demander/savoir
        voudrais/aimerais/souhaite/voulais/veux savoir/dire/demander
        pas très/trop/assez
        """,
        aux=words("pouvez pourriez avez êtes voulez allez livrez"),
    ),
    may_end=patterns(
        """
        merci à vous
        et vous
        chez/pour/avec/de/à/aidez/rappeler/rappelez/contacter/appeler/dire/et vous/nous
        comment/où/qui êtes/allez vous
        qu' est ce que c' est
        c' est quoi/où/qui/quand/combien
        c' est combien
        fait/coûte/coûtent/reste/faut/vaut/est combien
        heure est il
        temps/combien fait il
        reste/coûte/arrive/va/vaut/ouvre/ferme/marche t il
        ça c' est combien
        de plus
        non/moi/jamais plus
        ne * plus
        n' * plus
        moi/vous/lui/nous/oui/non aussi
        quand/si/comme @wish peux/pouvez/veux/voulez
        ça va
        comment ça va
        ce qu' il faut
        tout ce que je veux/peux/dois
        combien en/y a t il
        il y en a
        j' y vais
        ça en est où
        en est où
        où il/elle est
        le/la/un/une/de même
        quand même
        la semaine/fois prochaine
        le mois prochain
        l' année/an prochaine/prochain
        lundi/mardi/mercredi/jeudi/vendredi/samedi/dimanche/end prochain
        peut/pour être
        tout près
        c' est trop
        beaucoup trop
        """,
        wish=words("je vous tu on"),
    ),
    stranding=frozenset(),
    transitive=words(
        """comprend contient dit envoyer donner réserver commander acheter recevoir prendre faire avoir trouver
        chercher changer modifier envoyez donnez montrez apportez commandé acheté reçu trouvé cherche cherchez
        veux besoin obtenir confirmer vérifier demander savoir connaître expliquer ajouter remplacer déplacer
        indiquer transmettre apporter"""
    ),
    # The object stands before the verb as a pronoun: "pouvez-vous me l'envoyer".
    object_before=words("que qu' ça été être est sont"),
    clitics=words("le la les l' en"),
    adverbs=words("pas plus jamais déjà encore toujours bien vraiment"),
    fronted=words("que qu' quoi quel quelle quels quelles ce"),
    auxiliaries=_AUXILIARIES,
    subjects=words("je j' tu il ils elles on ça c' personne"),
    verbs=words(
        """coûte coûtent livrez livre ouvre ouvrez ouvrent ferme fermez ferment fonctionne fonctionnent marche marchent
        arrive arrivent reçu reçois cherche appelle trouve trouvez prend prenez envoie envoyez passe passez convient
        vends vendez acceptez accepte commence finit dit dites sait savez parle parlez habite dure reste manque
        revient tombe vaut propose proposez faire payer réserver venir aller avoir être changer annuler modifier
        envoyer réinitialiser joindre contacter faudra pourra"""
    ),
    infinitive=frozenset(),
    determiners=_ARTICLES,
    subordinators=words("si quand lorsque comme puisque"),
    embedding=words("si quand où comment pourquoi"),
    indirect=words("où quand comment combien qui"),
    closing=words("est sont était"),
    coordinators=words("et mais ou"),
    possessives=words("mon ma mes notre nos"),
    requests=patterns(
        """
        je voudrais/souhaite/souhaiterais/veux/voulais/aimerais/cherche
        j' aimerais/aurais
        j' ai besoin de/d'
        j' aurais besoin de/d'
        j' appelle pour
        je vous appelle pour
        est ce que je peux/pourrais
        puis/pourrais je
        je peux
        on voudrait
        nous voudrions/souhaitons
        """
    ),
    pending=patterns(
        """
        est ce possible
        ce serait possible
        pas sûr/sûre
        """
    ),
    topics=patterns(
        """
        j' ai/aurais une/un petite/petit/autre/gros question/problème/souci
        j' ai/aurais une/un question/problème/souci/demande/réclamation
        c' est au sujet de/du
        c' est pour/concernant un/une/ma/mon
        """
    ),
    narrations=patterns(
        """
        j' ai commandé/acheté/reçu/réservé/envoyé/payé/passé/appelé
        je suis client/cliente/abonné/abonnée
        """
    ),
    scheduled=words("réserver table rendez chambre déplacer reporter"),
    times=words(
        """lundi mardi mercredi jeudi vendredi samedi dimanche aujourd' demain soir matin midi nuit semaine week mois
        année heure heures janvier février mars avril mai juin juillet août septembre octobre novembre décembre
        maintenant tard bientôt après-midi noël"""
    ),
    details=words(
        """à au aux pour par sur avec sans chez dans en depuis qui que qu' parce si quand où et mais comment"""
    ),
    continuations=words("et mais parce qui que"),
    numbers=_NUMBERS,
    letters={
        "tiret": "-",
        "plus": "+",
        "slash": "/",
        "tiret bas": "_",
        "underscore": "_",
        "i grec": "y",
        "double v": "w",
        "deux l": "ll",
        "deux t": "tt",
        "deux n": "nn",
        "deux m": "mm",
        "deux s": "ss",
    },
    spelled_as=patterns("comme"),
    scales=words("cent cents mille"),
    number_nouns=words("numéro code référence téléphone portable mobile postal iban dossier"),
    phone_nouns=words("téléphone portable mobile"),
    email_nouns=words("email mail courriel mél"),
    copulas=words("est c' le"),
    clock=words("à en depuis vers de jusqu' avant après"),
    at_signs=words("arobase arobas at chez"),
    dots=words("point"),
    postcode_nouns=words("postal"),
    months=words("janvier février mars avril mai juin juillet août septembre octobre novembre décembre"),
    phone_digits=10,
    trunk_phone_digits=10,
    questions=(
        ("EMAIL", phrases("email\nmail\ncourriel\nadresse mail\nadresse électronique")),
        ("POSTCODE", phrases("code postal")),
        ("PHONE", phrases("téléphone\nnuméro de portable\nnuméro de mobile\nvous joindre\nvous rappeler")),
        ("BIRTHDATE", phrases("date de naissance\nné\nnée")),
        ("SPELLING", phrases("épeler\népelez")),
        ("NAME", phrases("nom\nprénom\nvous appelez vous\nqui ai je")),
        ("QUANTITY", phrases("combien")),
        ("TIME", phrases("quelle heure")),
        ("DATE", phrases("date\nquand\nquel jour")),
        ("NUMBER", phrases("numéro\ncode\nréférence\nchiffres\niban")),
        ("ADDRESS", phrases("adresse\nrue\nhabitez vous")),
    ),
    yes_no=patterns(
        """
        est/êtes/avez/voulez/souhaitez/puis/désirez/préférez/aimeriez
        est ce que/qu'/bien/correct
        ça/cela vous
        c' est bien/correct
        """
    ),
    choice=words("ou"),
)
